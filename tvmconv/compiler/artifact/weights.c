/* Part of every library for CPUs, after trace.c: weights that are in a file beside the library, and weights that are
 * packed at the first call that needs them. After both is done, a call pays a load and a predictable branch for each.
 *
 * No lock is held meanwhile that a fork could leave locked in the child: of several threads that map the file, one
 * wins; packing is claimed by process number, and a child takes over from a parent's thread. */

enum { TCV_AT_PACKED = 1, TCV_AT_FILE = 2 };          /* after what the library holds */
enum { TCV_PAGE = 65536, TCV_HUGE_PAGE = 2 << 20 };   /* no system has larger ordinary pages */

#ifdef TCV_WEIGHTS_BYTES
/* ---- the file: 16 bytes that say what it is, 8 with its size, 8 of nothing, the SHA-256 of what follows ---- */

#define TCV_WEIGHTS_MAGIC "TVMCONV-WEIGHTS\n"
static const char *tcv_weights;                       /* as mapped; NULL before the first call */

#ifdef TCV_STATIC
static size_t tcv_own_path(char *path, size_t size) {
  ssize_t n = readlink("/proc/self/exe", path, size - 1);
  return n < 0 ? 0 : (size_t)n;
}
#else
static size_t tcv_own_path(char *path, size_t size) {
  static const char here;
  Dl_info self;
  size_t n = dladdr(&here, &self) && self.dli_fname ? strlen(self.dli_fname) : 0;
  if (n >= size) return 0;
  memcpy(path, self.dli_fname, n);
  return n;
}
#endif

/* Maps the file `path`; NULL: the one beside the library, or beside the program that it is linked into. */
static int tcv_map_weights(const char *path) {
  static const unsigned char hash[32] = {TCV_WEIGHTS_SHA256};
  char beside[4096];
  const char *none = NULL, *mapped = MAP_FAILED;
  int code = TCV_OK;
  if (tcv_load(&tcv_weights)) return TCV_OK;
  if (!path) {
    size_t n = tcv_own_path(beside, sizeof beside - sizeof TCV_WEIGHTS_FILE);
    while (n && beside[n - 1] != '/') --n;
    memcpy(beside + n, TCV_WEIGHTS_FILE, sizeof TCV_WEIGHTS_FILE);
    path = beside;
  }
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  long long size = file < 0 ? -1 : (long long)lseek(file, 0, SEEK_END);
  if (size < 0) code = tcv_fail(TCV_ERR_WEIGHTS, "weights: %.200s cannot be read: %s", path, strerror(errno));
  else if (size != TCV_WEIGHTS_BYTES)
    code = tcv_fail(TCV_ERR_WEIGHTS, "weights: %.200s has %lld bytes, expected %lld: it is damaged, or another model's",
                    path, size, TCV_WEIGHTS_BYTES);
  else if ((mapped = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, file, 0)) == MAP_FAILED)
    code = tcv_fail(TCV_ERR_WEIGHTS, "weights: %.200s cannot be mapped: %s", path, strerror(errno));
  else if (memcmp(mapped, TCV_WEIGHTS_MAGIC, 16) || memcmp(mapped + 32, hash, 32))
    code = tcv_fail(TCV_ERR_WEIGHTS, "weights: %.200s is another model's, expected SHA-256 %02x%02x%02x%02x...", path,
                    hash[0], hash[1], hash[2], hash[3]);
  if (file >= 0) close(file);
  if (mapped != MAP_FAILED && (code || !tcv_swap_if(&tcv_weights, &none, mapped))) munmap((void *)mapped, (size_t)size);
  return code;
}
#endif

#ifdef TCV_PACKED_BYTES
/* ---- packing, into memory of the library's own that is none before it is touched ---- */

static char tcv_packed_room[TCV_PACKED_BYTES + TCV_HUGE_PAGE];
static int tcv_packing_process;                       /* of the thread that packs; 0: none does */

static char *tcv_packed(void) {
  return (char *)(((uintptr_t)tcv_packed_room + TCV_HUGE_PAGE - 1) & -(uintptr_t)TCV_HUGE_PAGE);
}

/* Weights that have been packed are not needed again soon: what is mapped of the file leaves memory. */
static void tcv_release(const tcv_operand *o, const uintptr_t *at) {
  size_t bytes = (size_t)(o->tensor.bits * o->tensor.lanes / 8);
  for (int i = 0; i < o->tensor.ndim; ++i) bytes *= (size_t)o->tensor.shape[i];
  uintptr_t from = at[o->argument] + (uintptr_t)o->tensor.data, to = (from + bytes) & -(uintptr_t)TCV_PAGE;
  from = (from + TCV_PAGE - 1) & -(uintptr_t)TCV_PAGE;
  if (o->argument != TCV_AT_PACKED && from < to) madvise((void *)from, to - from, MADV_DONTNEED);
}

static int tcv_run_step(const tcv_step *step, const uintptr_t *at);

/* Packs what a program needs and nobody has packed yet. */
static int tcv_pack(const tcv_function *f, const tcv_program *program, const uintptr_t *at) {
  int self = (int)getpid(), failed = 0;
  for (int none; none = 0, !tcv_swap_if(&tcv_packing_process, &none, self);) {
    if (none != self && tcv_swap_if(&tcv_packing_process, &none, self)) break;  /* left so by a fork */
    struct timespec wait = {0, 200000};
    nanosleep(&wait, NULL);
  }
  if (!tcv_load(program->packed)) madvise(tcv_packed(), TCV_PACKED_BYTES, MADV_HUGEPAGE);
  for (const tcv_packing *p = program->packing; p->step && !failed; ++p) {
    if (*p->done) continue;
    tcv_loops = p->step->loops;
    if (!(failed = tcv_run_step(p->step, at))) *p->done = 1;
  }
  for (const tcv_packing *p = program->packing; p->step && !failed; ++p)
    for (int i = 0; i < p->step->n_operands; ++i) tcv_release(&p->step->operands[i], at);
  if (!failed) tcv_store(program->packed, 1);
  tcv_store(&tcv_packing_process, 0);
  return failed ? tcv_fail(TCV_ERR_KERNEL, "%s: weights could not be packed", f->name) : TCV_OK;
}
#endif
