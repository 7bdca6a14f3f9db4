/* Part of every exported library: error text, workspace and thread pool for its kernels.
 *
 * The library's C source is this text, the table of CPU features that its kernels need, call.c, and
 * generated entry points, all in one file; so everything here is static except what TVM finds by name.
 * C99 with the GNU atomics and __thread, for Linux, compiled for the baseline of the architecture. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TCV_EXPORT __attribute__((visibility("default")))
#define TCV_MAX_THREADS 256
#define TCV_TASKS_PER_THREAD 4             /* so that a thread which wakes late costs little */
#define TCV_SPIN_NS 50000                  /* how long an idle thread watches for work before it sleeps */
#define TCV_WAKE_NS 20000                  /* work that takes less is not worth waking sleepers for */
#define TCV_KNOWN 64                       /* kernels whose time is remembered; a power of two */
#define TCV_ARENA_MAX ((size_t)64 << 20)   /* most workspace that a thread keeps between calls */

enum { TCV_OK, TCV_ERR_NULL, TCV_ERR_ALIGN, TCV_ERR_OVERLAP, TCV_ERR_CPU, TCV_ERR_KERNEL };

#define tcv_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define tcv_store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define tcv_add(p, v) __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)
#define tcv_swap_if(p, old, new) \
  __atomic_compare_exchange_n(p, old, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

/* ---- what TVM's compiled code expects of its surroundings ---- */

typedef struct { void *sync_handle; int32_t num_task; } tcv_env;
typedef int (*tcv_task)(int task_id, tcv_env *env, void *data);
typedef struct {
  void *data;
  int32_t device_type, device_id, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  const int64_t *shape, *strides;
  uint64_t byte_offset;
} tcv_tensor;                                       /* DLTensor */
typedef struct {
  int32_t type_index;
  uint32_t padding;
  union { int64_t bits; void *pointer; } value;
} tcv_any;                                          /* TVMFFIAny */
typedef int (*tcv_entry)(void *self, const tcv_any *args, int32_t n, tcv_any *ret);
enum { TCV_DEVICE_CPU = 1, TCV_TYPE_NONE = 0, TCV_TYPE_DLTENSOR = 7, TCV_TYPE_TENSOR = 70 };
enum { TCV_OBJECT_HEADER = 24 };                    /* before the DLTensor in a tensor object */

/* ---- error text, one per thread ---- */

#define TCV_TEXT 384
static __thread char tcv_error[TCV_TEXT];

__attribute__((format(printf, 2, 3))) static int tcv_fail(int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(tcv_error, sizeof tcv_error, format, args);
  va_end(args);
  return code;
}

/* Compiled kernels call this by name; version script and -Bsymbolic keep it inside the library. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n) {
  size_t used = (size_t)snprintf(tcv_error, sizeof tcv_error, "%s: ", kind);
  for (int32_t i = 0; i < n && used < sizeof tcv_error; ++i)
    if (parts[i]) used += (size_t)snprintf(tcv_error + used, sizeof tcv_error - used, "%s", parts[i]);
}

/* ---- workspace: a stack per thread, kept between calls ---- */

typedef struct { size_t before, owned; } tcv_block;  /* sits in the 64 bytes before each block */
static __thread struct { char *base; size_t size, used, wanted; } tcv_arena;
static pthread_key_t tcv_arena_key;
static pthread_once_t tcv_arena_once = PTHREAD_ONCE_INIT;
static int tcv_arena_keyed;

static void tcv_arena_free(void *base) {
  free(base);
  tcv_arena.base = NULL, tcv_arena.size = 0;
}

static void tcv_arena_init(void) { tcv_arena_keyed = !pthread_key_create(&tcv_arena_key, tcv_arena_free); }

/* With nothing in use: make it as large as was ever wanted at once, within reason. */
static void tcv_arena_grow(size_t size) {
  void *base;
  pthread_once(&tcv_arena_once, tcv_arena_init);
  if (!tcv_arena_keyed) return;                       /* nothing would free it at thread exit */
  tcv_arena_free(tcv_arena.base);
  if (posix_memalign(&base, 64, size) == 0) tcv_arena.base = base, tcv_arena.size = size;
  pthread_setspecific(tcv_arena_key, tcv_arena.base);
}

static void *tcv_workspace_alloc(int device_type, int device_id, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device_id, (void)code, (void)bits;
  size_t need = ((size_t)bytes + 127) & ~(size_t)63, most;
  void *base;
  tcv_block *block;
  if (need < bytes) goto out_of_memory;
  if (tcv_arena.wanted < tcv_arena.used + need) tcv_arena.wanted = tcv_arena.used + need;
  most = tcv_arena.wanted < TCV_ARENA_MAX ? tcv_arena.wanted : TCV_ARENA_MAX;
  if (tcv_arena.used == 0 && tcv_arena.size < most) tcv_arena_grow(most);
  if (tcv_arena.size - tcv_arena.used >= need) {
    block = (tcv_block *)(tcv_arena.base + tcv_arena.used);
    block->before = tcv_arena.used, block->owned = 0;
    tcv_arena.used += need;
  } else {
    if (posix_memalign(&base, 64, need)) goto out_of_memory;
    block = base;
    block->owned = 1;
  }
  return (char *)block + 64;
out_of_memory:
  tcv_fail(0, "out of memory: a workspace of %llu bytes", (unsigned long long)bytes);
  return NULL;
}

static int tcv_workspace_free(int device_type, int device_id, void *pointer) {
  (void)device_type, (void)device_id;
  tcv_block *block = (tcv_block *)((char *)pointer - 64);
  if (block->owned) free(block);
  else tcv_arena.used = block->before;                /* kernels free in reverse order */
  return 0;
}

/* ---- thread pool ----
 * One launch at a time; whoever finds the pool busy (a second caller, a nested launch) runs its work
 * alone. `left` counts tasks not yet claimed, `pending` tasks not yet finished. A claim by
 * compare-and-swap of a positive `left` always belongs to the current launch, which cannot end before
 * that task does, so a thread that wakes late can neither run stale work nor be waited for. */

static struct {
  int left __attribute__((aligned(64)));
  int pending __attribute__((aligned(64)));
  int epoch __attribute__((aligned(64)));             /* futex: changes when there is something to look at */
  int sleepers;
  int busy __attribute__((aligned(64)));              /* held by the launching thread */
  int caller_sleeps, caller_cpu, threads, failed, keep, started, fork_handled;
  tcv_task task;
  void *data;
  tcv_env env;
  struct { tcv_task task; int64_t ns; } known[TCV_KNOWN];  /* time on one thread */
  pthread_t worker[TCV_MAX_THREADS];
  char error[TCV_TEXT];
} tcv_pool;

static void tcv_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#elif defined(__riscv)
  __asm__ volatile(".4byte 0x0100000f");              /* pause: a hint, a no-op where unknown */
#endif
}

static void tcv_futex(int *address, int operation, int value) {
  syscall(SYS_futex, address, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static int64_t tcv_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Watch for *address to leave `value`, for at most so long. */
static void tcv_spin(int *address, int value, int64_t ns) {
  int64_t end = tcv_now() + ns;
  do
    for (int i = 0; i < 64; ++i) {
      if (tcv_load(address) != value) return;
      tcv_pause();
    }
  while (tcv_now() < end);
}

/* Claim and run tasks while there are any; how many it were. */
static int tcv_run_tasks(void) {
  int ran = 0, left = tcv_load(&tcv_pool.left);
  while (left > 0) {
    if (!tcv_swap_if(&tcv_pool.left, &left, left - 1)) continue;
    int ok = 0;
    if (tcv_pool.task(tcv_pool.env.num_task - left, &tcv_pool.env, tcv_pool.data) &&
        tcv_swap_if(&tcv_pool.failed, &ok, 1))
      memcpy(tcv_pool.error, tcv_error, TCV_TEXT);    /* the error text is this thread's own */
    if (tcv_add(&tcv_pool.pending, -1) == 1 && tcv_load(&tcv_pool.caller_sleeps))
      tcv_futex(&tcv_pool.pending, FUTEX_WAKE, 1);
    left = tcv_load(&tcv_pool.left);
    ++ran;
  }
  return ran;
}

static void *tcv_worker(void *index) {
  for (;;) {
    int seen = tcv_load(&tcv_pool.epoch);
    if ((int)(intptr_t)index >= tcv_load(&tcv_pool.keep)) return NULL;
    tcv_run_tasks();
    /* On the caller's own CPU (others are busy), watching would only keep the caller from running. */
    if (sched_getcpu() != __atomic_load_n(&tcv_pool.caller_cpu, __ATOMIC_RELAXED))
      tcv_spin(&tcv_pool.epoch, seen, TCV_SPIN_NS);
    if (tcv_load(&tcv_pool.epoch) != seen) continue;
    tcv_add(&tcv_pool.sleepers, 1);
    tcv_futex(&tcv_pool.epoch, FUTEX_WAIT, seen);     /* returns at once if the epoch moved on */
    tcv_add(&tcv_pool.sleepers, -1);
  }
}

static void tcv_wake_workers(int most) {
  tcv_add(&tcv_pool.epoch, 1);
  if (tcv_load(&tcv_pool.sleepers)) tcv_futex(&tcv_pool.epoch, FUTEX_WAKE, most);
}

/* Threads do not survive fork, so the child starts afresh, even if the parent was in the middle of a call. */
static void tcv_after_fork(void) {
  tcv_pool.left = tcv_pool.pending = tcv_pool.sleepers = tcv_pool.caller_sleeps = 0;
  tcv_pool.started = tcv_pool.busy = 0;
}

static int tcv_default_threads(void) {
  static const char *const names[] = {"TVMCONV_NUM_THREADS", "TVM_NUM_THREADS"};
  for (int i = 0; i < 2; ++i) {
    const char *text = getenv(names[i]);
    long n = text ? strtol(text, NULL, 10) : 0;
    if (n > 0) return n < TCV_MAX_THREADS ? (int)n : TCV_MAX_THREADS;
  }
  cpu_set_t set;
  int n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
  return n < 1 ? 1 : n < TCV_MAX_THREADS ? n : TCV_MAX_THREADS;
}

static void tcv_start_workers(int threads) {
  sigset_t all, before;
  if (!tcv_pool.fork_handled) tcv_pool.fork_handled = pthread_atfork(NULL, NULL, tcv_after_fork) == 0;
  tcv_store(&tcv_pool.keep, threads - 1);
  sigfillset(&all);                                   /* signals are the program's own threads' business */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (; tcv_pool.started < threads - 1; ++tcv_pool.started)
    if (pthread_create(&tcv_pool.worker[tcv_pool.started], NULL, tcv_worker,
                       (void *)(intptr_t)tcv_pool.started)) {
      tcv_store(&tcv_pool.threads, tcv_pool.started + 1);  /* no more to be had: do with these */
      break;
    }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int tcv_run_alone(tcv_task task, void *data, int num_task) {
  tcv_env env = {NULL, num_task > 0 ? num_task : 1};
  int failed = 0;
  for (int t = 0; t < env.num_task; ++t) failed |= task(t, &env, data);
  return failed ? -1 : 0;
}

/* With the pool held: publish the tasks, take part, wait for the others; the time that one thread needs. */
static int64_t tcv_run_together(tcv_task task, void *data, int tasks) {
  int pending, ran;
  tcv_pool.task = task, tcv_pool.data = data, tcv_pool.env.num_task = tasks;
  __atomic_store_n(&tcv_pool.caller_cpu, sched_getcpu(), __ATOMIC_RELAXED);
  tcv_store(&tcv_pool.failed, 0);
  tcv_store(&tcv_pool.pending, tasks);
  tcv_store(&tcv_pool.left, tasks);
  tcv_wake_workers(tasks - 1);
  int64_t start = tcv_now();
  ran = tcv_run_tasks();
  int64_t a_task = ran ? (tcv_now() - start) / ran : TCV_SPIN_NS, patience = 2 * a_task + 2000;
  while ((pending = tcv_load(&tcv_pool.pending)) > 0) {
    /* The others' last tasks should take no longer than ours did, or their threads do not get to run. */
    tcv_spin(&tcv_pool.pending, pending, patience < TCV_SPIN_NS ? patience : TCV_SPIN_NS);
    tcv_store(&tcv_pool.caller_sleeps, 1);
    if (tcv_load(&tcv_pool.pending) == pending) tcv_futex(&tcv_pool.pending, FUTEX_WAIT, pending);
    tcv_store(&tcv_pool.caller_sleeps, 0);
  }
  return a_task * tasks;
}

static int tcv_launch(tcv_task task, void *data, int num_task) {
  int threads = tcv_load(&tcv_pool.threads), idle = 0, failed;
  if (threads == 0) tcv_store(&tcv_pool.threads, threads = tcv_default_threads());
  if (threads == 1 || num_task == 1 || !tcv_swap_if(&tcv_pool.busy, &idle, 1))
    return tcv_run_alone(task, data, num_task);
  if (tcv_pool.started < threads - 1) tcv_start_workers(threads);
  int tasks = num_task > 0 ? num_task : threads * TCV_TASKS_PER_THREAD;
  int slot = (int)((uintptr_t)task >> 4) & (TCV_KNOWN - 1);
  int64_t ns = tcv_pool.known[slot].task == task ? tcv_pool.known[slot].ns : TCV_WAKE_NS;
  if (ns < TCV_WAKE_NS && tcv_load(&tcv_pool.sleepers) > 0) {
    ns = tcv_now();
    failed = tcv_run_alone(task, data, num_task);
    ns = tcv_now() - ns;
  } else {
    ns = tcv_run_together(task, data, tasks);
    failed = tcv_load(&tcv_pool.failed);
    if (failed) memcpy(tcv_error, tcv_pool.error, TCV_TEXT);
  }
  tcv_pool.known[slot].task = task, tcv_pool.known[slot].ns = ns;
  tcv_store(&tcv_pool.busy, 0);
  return failed ? -1 : 0;
}

static void tcv_set_num_threads(int n) {
  int idle = 0;
  if (n < 1) n = tcv_default_threads();
  if (n > TCV_MAX_THREADS) n = TCV_MAX_THREADS;
  while (!tcv_swap_if(&tcv_pool.busy, &idle, 1)) idle = 0, sched_yield();
  tcv_store(&tcv_pool.threads, n);
  tcv_store(&tcv_pool.keep, n - 1);
  tcv_wake_workers(TCV_MAX_THREADS);
  while (tcv_pool.started > n - 1) pthread_join(tcv_pool.worker[--tcv_pool.started], NULL);
  tcv_store(&tcv_pool.busy, 0);
}

/* TVM's compiled code calls through these; TVM's own loader, and our runtime, may put other functions there. */
TCV_EXPORT void *__TVMBackendParallelLaunch = (void *)tcv_launch;
TCV_EXPORT void *__TVMBackendAllocWorkspace = (void *)tcv_workspace_alloc;
TCV_EXPORT void *__TVMBackendFreeWorkspace = (void *)tcv_workspace_free;

/* A CPU feature. x86: cpuid leaf, subleaf, register (0 to 3: a, b, c, d), bit, and the bits of XCR0 that
 * the system must have set. Elsewhere: leaf is AT_HWCAP or AT_HWCAP2, and the bit. */
typedef struct { const char *name; uint32_t leaf, subleaf, reg, bit, os; } tcv_feature;
