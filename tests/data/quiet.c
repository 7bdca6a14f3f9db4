/* Calls net_main once, then some more under a filter that ends the process at any system call but those of the thread
 * pool, counting allocations meanwhile. Arguments: the path of the weights, or none. */
#include "net.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_memalign(size_t, size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
static volatile int allocations;

void *malloc(size_t size) { return ++allocations, __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return ++allocations, __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { return ++allocations, __libc_realloc(p, size); }
void *aligned_alloc(size_t align, size_t size) { return ++allocations, __libc_memalign(align, size); }
int posix_memalign(void **p, size_t align, size_t size) {
  *p = (++allocations, __libc_memalign(align, size));
  return *p ? 0 : 12;
}

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void trapped(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  int number = info->si_syscall;
  char text[] = "system call 0000\n";
  for (int i = 15; i > 11; --i, number /= 10) text[i] = (char)('0' + number % 10);
  _exit(write(1, text, sizeof text - 1) > 0 ? 8 : 9);
}

static int filter(void) {
  static struct sock_filter rules[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    ALLOW(futex), ALLOW(sched_getaffinity), ALLOW(sched_setaffinity),  /* the pool's */
    ALLOW(write), ALLOW(exit_group),                                   /* this program's */
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
  };
  static struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
  struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
  sigaction(SIGSYS, &action, NULL);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static float x[NET_MAIN_X_ELEMS], y[NET_MAIN_Y_ELEMS], want[NET_MAIN_Y_ELEMS];

int main(int argc, char **argv) {
  const void *in[] = {x};
  void *out[] = {y};
  FILE *file = fopen("case", "rb");
  if (!file || fread(x, sizeof x, 1, file) + fread(want, sizeof want, 1, file) != 2) return 2;
  fclose(file);
#ifdef NET_WEIGHTS
  if (argc > 1 && net_weights(argv[1])) return printf("%s\n", net_last_error()), 3;
#endif
  (void)argc, (void)argv;
  net_set_num_threads(2);
  if (net_main(in, out, NULL)) return printf("%s\n", net_last_error()), 4;
  usleep(100000);                                     /* for the pool to be ready */
  if (filter()) return 77;
  allocations = 0;
  for (int i = 0; i < 20; ++i) {
    memset(y, 0, sizeof y);
    if (net_main(in, out, NULL)) return 5;
    for (int k = 0; k < NET_MAIN_Y_ELEMS; ++k)
      if (!(fabsf(y[k] - want[k]) < 1e-4f)) return 6;
  }
  if (allocations) return 7;
  return write(1, "quiet\n", 6) != 6;
}
