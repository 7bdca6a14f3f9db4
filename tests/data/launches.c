/* The pool's dealings with its process, in C: launches SCENARIO. Ends with 0 and "right", or says what is not. */
#include "call.h"
#include "cpu.h"
#include "errors.c"
#include "support.c"
#include "threads.c"
#include "pool.c"
#include <fenv.h>
#include <sys/wait.h>

#define check(condition) \
  do if (!(condition)) printf("line %d: not %s\n", __LINE__, #condition), fflush(stdout), _exit(1); while (0)

enum { TASKS = 64 };
static pthread_t ran_on[TASKS];
static volatile float third[TASKS], tiny[TASKS];

/* A third is another number when rounded down; half of the least normal number is 0 if such are flushed. */
static int note(int i, tcv_env *env, void *data) {
  volatile float one = 1, three = 3, least = 1.17549435e-38f, half = 0.5f;
  (void)env, (void)data;
  for (int64_t end = tcv_now() + 500000; tcv_now() < end;) tcv_pause();  /* so that other threads get some */
  ran_on[i] = pthread_self(), third[i] = one / three, tiny[i] = least * half;
  return 0;
}

static void flush_to_zero(void) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8000);
#elif defined(__aarch64__)
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("msr fpcr, %0" : : "r"(control | 1 << 24));
#elif defined(__arm__)
  uint32_t control;
  __asm__ volatile("vmrs %0, fpscr" : "=r"(control));
  __asm__ volatile("vmsr fpscr, %0" : : "r"(control | 1 << 24));
#endif
}

static int elsewhere(void) {
  int n = 0;
  for (int i = 0; i < TASKS; ++i) n += !pthread_equal(ran_on[i], pthread_self());
  return n;
}

static void check_rounding(void) {
  for (int tries = 0, others = 0; !others; ++tries) {
    check(tries < 100);
    check(tcv_launch_here(note, NULL, TASKS) == 0);
    others = elsewhere();
    for (int i = 1; i < TASKS; ++i) check(third[i] == third[0] && tiny[i] == tiny[0]);
  }
}

static void rounding(void) {
  check_rounding();
  float nearest = third[0];
  check(fesetround(FE_DOWNWARD) == 0);
  check_rounding();
  check(third[0] < nearest);
  check(fesetround(FE_TONEAREST) == 0);
  check_rounding();
  check(third[0] == nearest);
  check(tiny[0] > 0);
  flush_to_zero();
  check_rounding();
  check(tiny[0] == 0);
}

static int add(int i, tcv_env *env, void *data) {
  (void)i, (void)env;
  __atomic_fetch_add((int *)data, 1, __ATOMIC_SEQ_CST);
  return 0;
}

/* A child of a process whose pool is held by another thread, at its first launch or a later one. */
static void check_child(int started, int system_call) {
  int status = -1, count = 0;
  check(tcv_own());
  tcv_pool.busy = 1, tcv_pool.pending = 7, tcv_pool.started = started;
  int child = system_call ? (int)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L) : (int)fork();
  if (child == 0) {
    alarm(20);
    tcv_set_num_threads(3);
    check(tcv_launch_here(add, &count, 100) == 0 && count == 100 && tcv_pool.started == 2);
    tcv_set_num_threads(1);
    _exit(0);
  }
  check(child > 0 && waitpid(child, &status, 0) == child && status == 0);
  check(tcv_own() && tcv_pool.busy && tcv_pool.started == started);    /* the parent's is as it was */
  tcv_pool.busy = 0, tcv_pool.pending = tcv_pool.started = 0;
}

static void forks(void) {
  for (int way = 0; way < 2; ++way) {
    if (way) tcv_mark = &tcv_plain_mark;                               /* as where no page can be had */
    for (int started = 0; started < 2; ++started) check_child(started, 0), check_child(started, 1);
  }
}

int main(int argc, char **argv) {
  const char *scenario = argc > 1 ? argv[1] : "";
  if (!strcmp(scenario, "threads")) {
    int n = tcv_default_threads();
    tcv_default_threads();                                             /* what is wrong is told once */
    return printf("%d\n", n), 0;
  }
  tcv_set_num_threads(4);
  if (!strcmp(scenario, "rounding")) rounding();
  else if (!strcmp(scenario, "forks")) forks();
  else check(0);
  puts("right");
  return 0;
}
