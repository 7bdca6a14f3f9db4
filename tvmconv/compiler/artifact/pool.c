/* Part of every exported library, after support.c and threads.c: the thread pool.
 *
 * One launch at a time; whoever finds the pool busy (a second caller, a nested launch) runs its work alone.
 * Each thread has a share of neighbouring tasks, the same in each launch of as many tasks, so that its cached
 * data is used again; when it is done, it takes from the ends of the others' shares. `pending` counts tasks
 * not yet finished. A claim by compare-and-swap of a share that is not empty always belongs to the current
 * launch, which cannot end before that task does, so a thread that wakes late can neither run stale work nor
 * be waited for. */

#define TCV_FEWEST_TASKS 4                 /* per thread, so that one that wakes late costs little */
#define TCV_MOST_TASKS 12
#define TCV_SPIN_NS 200000                 /* how long an idle thread watches for work before it sleeps */
#define TCV_WAKE_NS 20000                  /* shorter work is not worth waking sleepers for */
#define TCV_STEAL_NS 2000                  /* how long a thread may leave its last task before others take it */
#define TCV_KNOWN 64                       /* kernels whose time is remembered; a power of two */

/* Tasks first to last - 1 that nobody has claimed yet, as last << 32 | first. */
typedef struct { uint64_t left __attribute__((aligned(64))); } tcv_share;

static struct {
  tcv_share share[TCV_MAX_THREADS];                   /* of the launching thread, of worker 0, ... */
  int pending __attribute__((aligned(64)));
  int epoch __attribute__((aligned(64)));             /* futex: changes when there is something to look at */
  int sleepers;
  int busy __attribute__((aligned(64)));              /* held by the launching thread */
  int caller_sleeps, threads, failed, keep, started, shares;
  int caller_cpu;                                     /* that workers avoid; -1 if not yet known */
  uint32_t rounding;                                  /* the launching thread's, see tcv_rounding */
  tcv_task task;
  void *data;
  tcv_env env;
  struct { tcv_task task; int64_t ns; } known[TCV_KNOWN];  /* time on one thread */
  int64_t last;                                       /* when the last launch ended */
  pthread_t worker[TCV_MAX_THREADS];
  /* The CPUs last given to a worker, by us and by others: those it may use. */
  cpu_set_t given[TCV_MAX_THREADS], allowed[TCV_MAX_THREADS];
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

/* Spin until *address changes from `value`, for at most the given time. */
static void tcv_spin(int *address, int value, int64_t ns) {
  int64_t end = tcv_now() + ns;
  do
    for (int i = 0; i < 64; ++i) {
      if (tcv_load(address) != value) return;
      tcv_pause();
    }
  while (tcv_now() < end);
}

/* A task of a share, from its end if the share is another thread's; -1 if none is left. */
static int tcv_claim(tcv_share *share, int own) {
  uint64_t seen = tcv_load(&share->left);
  while ((uint32_t)seen < (uint32_t)(seen >> 32))
    if (tcv_swap_if(&share->left, &seen, own ? seen + 1 : seen - ((uint64_t)1 << 32)))
      return own ? (int)(uint32_t)seen : (int)(seen >> 32) - 1;
  return -1;
}

/* Give a thread time to take the last task of its share itself. The task's data is in that thread's cache; after a
 * theft it is in the thief's, which makes the owner late the next time, and another theft likely. */
static void tcv_leave_to_owner(tcv_share *share) {
  uint64_t seen = tcv_load(&share->left);
  if ((uint32_t)(seen >> 32) - (uint32_t)seen != 1) return;
  for (int64_t end = tcv_now() + TCV_STEAL_NS; tcv_load(&share->left) == seen && tcv_now() < end;) tcv_pause();
}

/* Count tasks as done: several at once, since each update costs the other threads a cache miss. */
static void tcv_finish(int tasks) {
  if (tasks && tcv_add(&tcv_pool.pending, -tasks) == tasks && tcv_load(&tcv_pool.caller_sleeps))
    tcv_futex(&tcv_pool.pending, FUTEX_WAKE, 1);
}

/* Claim and run tasks while there are any, those of the thread's own share first; returns how many it ran. */
static int tcv_run_tasks(int self) {
  int ran = 0, uncounted = 0, shares = tcv_load(&tcv_pool.shares);
  for (int turn = 0; turn < shares;) {
    int ok = 0, task, from = (self + turn) % shares;
    if (from != self) {
      tcv_finish(uncounted), uncounted = 0;
      tcv_leave_to_owner(&tcv_pool.share[from]);
    }
    task = tcv_claim(&tcv_pool.share[from], from == self);
    if (task < 0) {
      ++turn;
      continue;
    }
    tcv_round_as(tcv_pool.rounding);                  /* so that it does not matter which thread runs the task */
    if (tcv_pool.task(task, &tcv_pool.env, tcv_pool.data) && tcv_swap_if(&tcv_pool.failed, &ok, 1))
      memcpy(tcv_pool.error, tcv_error, TCV_TEXT);    /* the error text is this thread's own */
    ++ran, ++uncounted;
  }
  tcv_finish(uncounted);
  return ran;
}

/* Whether this thread is on the launching thread's CPU, where the two can only take turns. */
static int tcv_beside_caller(void) {
  return sched_getcpu() == tcv_load(&tcv_pool.caller_cpu);
}

static void *tcv_worker(void *index) {
  for (;;) {
    int seen = tcv_load(&tcv_pool.epoch);
    tcv_arena_ready();
    if ((int)(intptr_t)index >= tcv_load(&tcv_pool.keep)) return NULL;
    tcv_run_tasks((int)(intptr_t)index + 1);
    if (!tcv_beside_caller()) tcv_spin(&tcv_pool.epoch, seen, TCV_SPIN_NS);
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

/* Whether the pool is this process's. The child of any fork, at any moment, has the pool's state, maybe in the middle
 * of a launch, but none of its threads: it starts afresh. 0: another thread is doing that now. */
static int tcv_own(void) {
  int *mark = tcv_load(&tcv_mark);
  if (!mark) mark = tcv_make_mark();
  int self = mark == &tcv_plain_mark ? (int)getpid() : 1, seen = tcv_load(mark);
  if (seen == self) return 1;
  if (seen == -self || !tcv_swap_if(mark, &seen, -self)) return 0;
  memset(tcv_pool.share, 0, sizeof tcv_pool.share);
  tcv_store(&tcv_pool.pending, 0), tcv_store(&tcv_pool.sleepers, 0), tcv_store(&tcv_pool.caller_sleeps, 0);
  tcv_pool.started = 0;
  tcv_store(&tcv_pool.busy, 0);
  tcv_store(mark, self);
  return 1;
}

static void tcv_start_workers(int threads) {
  sigset_t all, before;
  cpu_set_t inherited;
  tcv_stay();
  tcv_store(&tcv_pool.keep, threads - 1);
  if (sched_getaffinity(0, sizeof inherited, &inherited)) CPU_ZERO(&inherited);
  tcv_store(&tcv_pool.caller_cpu, -1);
  sigfillset(&all);                                   /* signals are left to the program's own threads */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i; (i = tcv_pool.started) < threads - 1; ++tcv_pool.started) {
    tcv_pool.given[i] = tcv_pool.allowed[i] = inherited;
    if (pthread_create(&tcv_pool.worker[i], NULL, tcv_worker, (void *)(intptr_t)i)) {
      tcv_store(&tcv_pool.threads, i + 1);            /* no more available: use these */
      break;
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Schedulers tend to wake a thread on its waker's CPU, where the two can only take turns: have the workers avoid the
 * launching CPU, which rarely changes between launches. They stay on CPUs that the launching thread may use, and on
 * those that others have given them since. */
static void tcv_keep_off(int cpu) {
  cpu_set_t callers, now, others;
  if (cpu == tcv_pool.caller_cpu) return;
  tcv_store(&tcv_pool.caller_cpu, cpu);
  if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof callers, &callers)) return;
  CPU_CLR(cpu, &callers);
  for (int i = 0; i < tcv_pool.started; ++i) {
    if (pthread_getaffinity_np(tcv_pool.worker[i], sizeof now, &now)) continue;
    if (!CPU_EQUAL(&now, &tcv_pool.given[i])) tcv_pool.allowed[i] = now;
    CPU_AND(&others, &callers, &tcv_pool.allowed[i]);
    if (CPU_COUNT(&others) && !pthread_setaffinity_np(tcv_pool.worker[i], sizeof others, &others))
      tcv_pool.given[i] = others;
  }
}

static int tcv_run_alone(tcv_task task, void *data, int num_task) {
  tcv_env env = {NULL, num_task > 0 ? num_task : 1};
  int failed = 0;
  for (int t = 0; t < env.num_task; ++t) failed |= task(t, &env, data);
  return failed ? -1 : 0;
}

/* With the pool held: publish the tasks, take part, wait for the others; returns the time that one thread needs. */
static int64_t tcv_run_together(tcv_task task, void *data, int tasks) {
  int pending, ran, shares = tcv_pool.started + 1 < tasks ? tcv_pool.started + 1 : tasks;
  tcv_pool.task = task, tcv_pool.data = data, tcv_pool.env.num_task = tasks;
  tcv_pool.rounding = tcv_control();
  tcv_keep_off(sched_getcpu());
  tcv_store(&tcv_pool.failed, 0);
  tcv_store(&tcv_pool.pending, tasks);
  tcv_store(&tcv_pool.shares, shares);
  for (int i = 0; i < shares; ++i) {
    uint64_t first = (uint64_t)tasks * i / shares, last = (uint64_t)tasks * (i + 1) / shares;
    tcv_store(&tcv_pool.share[i].left, last << 32 | first);
  }
  tcv_wake_workers(tasks - 1);
  int64_t start = tcv_now();
  ran = tcv_run_tasks(0);
  int64_t a_task = ran ? (tcv_now() - start) / ran : TCV_SPIN_NS, patience = 2 * a_task + 2000;
  while ((pending = tcv_load(&tcv_pool.pending)) > 0) {
    /* The others' last tasks should take no longer than ours did, unless their threads are not running. */
    tcv_spin(&tcv_pool.pending, pending, patience < TCV_SPIN_NS ? patience : TCV_SPIN_NS);
    tcv_store(&tcv_pool.caller_sleeps, 1);
    if (tcv_load(&tcv_pool.pending) == pending) tcv_futex(&tcv_pool.pending, FUTEX_WAIT, pending);
    tcv_store(&tcv_pool.caller_sleeps, 0);
  }
  return a_task * tasks;
}

/* How many tasks to cut a loop into. TVM's code gives each the same number of iterations, rounded up, so the last
 * tasks may have fewer or none: use as many tasks per thread as keep the largest share small, and few where that makes
 * no difference. */
static int tcv_tasks(int64_t iterations, int threads) {
  int64_t tasks = (int64_t)threads * TCV_FEWEST_TASKS, largest = INT32_MAX;
  for (int64_t n = TCV_FEWEST_TASKS; iterations && n <= TCV_MOST_TASKS; ++n) {
    int64_t each = (iterations + threads * n - 1) / (threads * n), share = n * each;
    if (each == 1) share = (iterations + threads - 1) / threads;
    if (33 * share <= 32 * largest) largest = share, tasks = each == 1 ? iterations : threads * n;
    if (each == 1) break;
  }
  return (int)tasks;
}

/* `num_task`: the number of tasks; if negative, minus the number of iterations they share; 0 if unknown. */
static int tcv_launch_here(tcv_task task, void *data, int num_task) {
  int threads = tcv_load(&tcv_pool.threads), idle = 0, failed;
  if (threads == 0) {
    int n = tcv_default_threads();
    if (tcv_swap_if(&tcv_pool.threads, &threads, n)) threads = n;  /* unless another call has just set it */
  }
  if (threads == 1 || num_task == 1 || !tcv_own() || !tcv_swap_if(&tcv_pool.busy, &idle, 1))
    return tcv_run_alone(task, data, num_task);
  threads = tcv_load(&tcv_pool.threads);              /* held now: it may have changed, but no longer can */
  if (tcv_pool.started < threads - 1) tcv_start_workers(threads);
  int tasks = num_task > 0 ? num_task : tcv_tasks(-num_task, threads);
  int slot = (int)((uintptr_t)task >> 4) & (TCV_KNOWN - 1);
  int64_t start = tcv_now(), ns = tcv_pool.known[slot].task == task ? tcv_pool.known[slot].ns : TCV_WAKE_NS;
  /* Sleepers are woken for work that is worth it, or if launches follow each other closely. */
  if (ns < TCV_WAKE_NS && tcv_load(&tcv_pool.sleepers) > 0 && start - tcv_pool.last > TCV_SPIN_NS) {
    failed = tcv_run_alone(task, data, num_task);
    tcv_pool.last = tcv_now();
    ns = tcv_pool.last - start;
  } else {
    ns = tcv_run_together(task, data, tasks);
    failed = tcv_load(&tcv_pool.failed);
    if (failed) memcpy(tcv_error, tcv_pool.error, TCV_TEXT);
    tcv_pool.last = tcv_now();
  }
  tcv_pool.known[slot].task = task, tcv_pool.known[slot].ns = ns;
  tcv_store(&tcv_pool.busy, 0);
  return failed ? -1 : 0;
}

TCV_OWN void tcv_set_num_threads(int n) {
  int idle = 0;
  if (n < 1) n = tcv_default_threads();
  if (n > TCV_MAX_THREADS) n = TCV_MAX_THREADS;
  while (!tcv_own() || !tcv_swap_if(&tcv_pool.busy, &idle, 1)) idle = 0, sched_yield();
  tcv_store(&tcv_pool.threads, n);
  tcv_store(&tcv_pool.keep, n - 1);
  tcv_wake_workers(TCV_MAX_THREADS);
  while (tcv_pool.started > n - 1) pthread_join(tcv_pool.worker[--tcv_pool.started], NULL);
  tcv_store(&tcv_pool.busy, 0);
}

/* The pool that this library launches on: its own, or another library's, set by our runtime so that a process has only
 * one. */
TCV_SHARED void *tcv_shared_launch = (void *)tcv_launch_here;

static int tcv_launch(tcv_task task, void *data, int num_task) {
  if (num_task == 0 && tcv_loops && *tcv_loops) num_task = -*tcv_loops++;
  return ((int (*)(tcv_task, void *, int))tcv_shared_launch)(task, data, num_task);
}

/* TVM's compiled code calls through these; TVM's own loader may put other functions there. */
TCV_VARIABLE void *__TVMBackendParallelLaunch = (void *)tcv_launch;
TCV_VARIABLE void *__TVMBackendAllocWorkspace = (void *)tcv_workspace_alloc;
TCV_VARIABLE void *__TVMBackendFreeWorkspace = (void *)tcv_workspace_free;
