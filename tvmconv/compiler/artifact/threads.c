/* Part of every exported library, after support.c: what the thread pool asks of the system and of its threads. */

#define TCV_MAX_THREADS 256

/* ---- how a thread rounds ---- */

/* Its rounding mode, and whether it flushes subnormals to zero: these bits of its control register. Flags and traps
 * stay each thread's own. */
#if defined(__x86_64__)
#define TCV_ROUNDING 0xe040u
static uint32_t tcv_control(void) { return __builtin_ia32_stmxcsr(); }
static void tcv_set_control(uint32_t control) { __builtin_ia32_ldmxcsr(control); }
#elif defined(__aarch64__)
#define TCV_ROUNDING 0x07c80007u
static uint32_t tcv_control(void) {
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  return (uint32_t)control;
}
static void tcv_set_control(uint32_t control) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)control)); }
#elif defined(__arm__) && defined(__ARM_FP)
#define TCV_ROUNDING 0x07c80000u
static uint32_t tcv_control(void) {
  uint32_t control;
  __asm__ volatile("vmrs %0, fpscr" : "=r"(control));
  return control;
}
static void tcv_set_control(uint32_t control) { __asm__ volatile("vmsr fpscr, %0" : : "r"(control)); }
#elif defined(__riscv_flen)
#define TCV_ROUNDING 0x7u
static uint32_t tcv_control(void) {
  unsigned long control;
  __asm__ volatile("frrm %0" : "=r"(control));
  return (uint32_t)control;
}
static void tcv_set_control(uint32_t control) { __asm__ volatile("fsrm %0" : : "r"((unsigned long)control)); }
#else
#define TCV_ROUNDING 0u
static uint32_t tcv_control(void) { return 0; }
static void tcv_set_control(uint32_t control) { (void)control; }
#endif

static void tcv_round_as(uint32_t wanted) {
  uint32_t control = tcv_control();
  if ((control ^ wanted) & TCV_ROUNDING) tcv_set_control((control & ~TCV_ROUNDING) | (wanted & TCV_ROUNDING));
}

/* ---- whether this is still the same process ---- */

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* The mark that the pool is this process's: on a page that a fork's child finds empty, or, if there is none, at
 * tcv_plain_mark. */
static int *tcv_mark, tcv_plain_mark;

static int *tcv_make_mark(void) {
  size_t size = (size_t)sysconf(_SC_PAGESIZE);
  int *none = NULL, *mark = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if ((void *)mark == MAP_FAILED) mark = &tcv_plain_mark;
  /* Emulators may accept any advice, and follow none. */
  else if (madvise(mark, size, -1) == 0 || madvise(mark, size, MADV_WIPEONFORK))
    munmap(mark, size), mark = &tcv_plain_mark;
  if (tcv_swap_if(&tcv_mark, &none, mark)) return mark;
  if (mark != &tcv_plain_mark) munmap(mark, size);
  return none;                                        /* another thread's */
}

/* ---- how many threads ---- */

#ifndef TCV_CGROUPS
#define TCV_CGROUPS "/sys/fs/cgroup"
#define TCV_CGROUP_OF_SELF "/proc/self/cgroup"
#endif

/* The number that a text begins with, -1 if none; *end: what follows. (The C library's functions for this have
 * different names in each version of its headers, which older libraries lack.) */
static int64_t tcv_number(const char *text, const char **end) {
  int64_t n = -1;
  for (; *text >= '0' && *text <= '9'; ++text)
    if (n < INT64_MAX / 20) n = (n < 0 ? 0 : 10 * n) + *text - '0';
  *end = text;
  return n;
}

/* A number in a file of a control group, the second of two if so asked; -1 if there is none. */
static int64_t tcv_cgroup_number(const char *controller, const char *group, const char *file, int second) {
  char text[1024];
  const char *at = text, *end;
  snprintf(text, sizeof text, TCV_CGROUPS "%s%s/%s", controller, group, file);
  FILE *stream = fopen(text, "re");
  if (!stream || !fgets(text, sizeof text, stream)) text[0] = 0;
  if (stream) fclose(stream);
  if (second && (at = strchr(text, ' '))) ++at;
  return at ? tcv_number(at, &end) : -1;
}

/* How many CPUs' time the control groups that this process is in may use, rounded up. */
static int tcv_cpu_quota(void) {
  char line[512];
  int64_t least = TCV_MAX_THREADS;
  FILE *stream = fopen(TCV_CGROUP_OF_SELF, "re");
  while (stream && fgets(line, sizeof line, stream)) {           /* 0::/group, or 2:cpu,cpuacct:/group */
    char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL, *end;
    if (!group) continue;
    *names = *group = ',';
    int unified = group == names + 1;
    if (!unified && (!(end = strstr(names, ",cpu,")) || end >= group)) continue;
    group[1 + strcspn(group + 1, "\n")] = 0;
    for (++group;; *end = 0) {                        /* the group and those it is in */
      int64_t quota = unified ? tcv_cgroup_number("", group, "cpu.max", 0)
                              : tcv_cgroup_number("/cpu", group, "cpu.cfs_quota_us", 0);
      int64_t period = unified ? tcv_cgroup_number("", group, "cpu.max", 1)
                               : tcv_cgroup_number("/cpu", group, "cpu.cfs_period_us", 0);
      if (quota > 0 && period > 0 && (quota - 1) / period + 1 < least) least = (quota - 1) / period + 1;
      if (!(end = strrchr(group, '/'))) break;
    }
  }
  if (stream) fclose(stream);
  return (int)least;
}

/* What a variable of the environment says: a plain number from 1 to TCV_MAX_THREADS; 0 if it is not set, or says
 * anything else, which is told once. */
static int tcv_threads_in(const char *name) {
  static int told;
  int no = 0;
  const char *text = getenv(name), *end;
  if (!text || !*text) return 0;
  int64_t n = tcv_number(text, &end);
  if (!*end && n >= 1 && n <= TCV_MAX_THREADS) return (int)n;
  if (tcv_swap_if(&told, &no, 1)) {
    char shown[41] = "";
    for (int i = 0; i < 40 && text[i]; ++i) shown[i] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
    fprintf(stderr, "tvmconv: %s: '%s', expected a whole number from 1 to %d; it is ignored\n", name, shown,
            TCV_MAX_THREADS);
  }
  return 0;
}

static int tcv_default_threads(void) {
  cpu_set_t set;
  int n = tcv_threads_in("TVMCONV_NUM_THREADS"), quota;
  if (n || (n = tcv_threads_in("TVM_NUM_THREADS"))) return n;
  n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
  quota = tcv_cpu_quota();
  return n < 1 ? 1 : n < quota ? n : quota;
}
