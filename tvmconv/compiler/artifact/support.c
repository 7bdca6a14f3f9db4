/* Part of every library for CPUs, after call.c: what TVM's compiled code expects around it, and workspace. Compiled for
 * the baseline of the architecture. */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_PRIVATE_FLAG = 128 };  /* musl's compiler lacks Linux's headers */

#ifdef TCV_STATIC                          /* part of a program, where TVM does not look for these */
#define TCV_VARIABLE
#define TCV_SHARED static
#else
#define TCV_VARIABLE TCV_EXPORT
#define TCV_SHARED TCV_EXPORT
#endif
#define TCV_ARENA_MAX ((size_t)64 << 20)   /* the most workspace that a thread keeps between calls */

#define tcv_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define tcv_store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define tcv_add(p, v) __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)
#define tcv_swap_if(p, old, new) \
  __atomic_compare_exchange_n(p, old, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

/* Iterations of the parallel loops still to come in the kernel that this thread runs, or ran last, ended by a 0; NULL
 * before the first. */
static __thread const int32_t *tcv_loops;

/* Compiled kernels call this by name; version script and -Bsymbolic keep it inside the library. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n) {
  size_t used = (size_t)snprintf(tcv_error, sizeof tcv_error, "%s: ", kind);
  for (int32_t i = 0; i < n && used < sizeof tcv_error; ++i)
    if (parts[i]) used += (size_t)snprintf(tcv_error + used, sizeof tcv_error - used, "%s", parts[i]);
}

/* ---- what stays when a library's user is done with it ---- */

/* The pool's threads, and the destructor of a thread's workspace, may run this library's code at any time: make
 * dlclose leave it mapped from now on. A library that uses another's pool and workspace has neither. */
static void tcv_stay(void) {
#ifndef TCV_STATIC
  static const char here;
  Dl_info self;
  if (dladdr(&here, &self)) dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
#endif
}

/* ---- workspace: a stack per thread, kept between calls ---- */

typedef struct { size_t before, owned; } tcv_block;  /* sits in the 64 bytes before each block */
static __thread struct { char *base; size_t size, used, wanted, planned; } tcv_arena;
static pthread_key_t tcv_arena_key;
static pthread_once_t tcv_arena_once = PTHREAD_ONCE_INIT;
static int tcv_arena_keyed;

static void tcv_arena_free(void *base) {
  free(base);
  tcv_arena.base = NULL, tcv_arena.size = 0;
}

static void tcv_arena_init(void) {
  tcv_stay();
  tcv_arena_keyed = !pthread_key_create(&tcv_arena_key, tcv_arena_free);
}

/* With nothing in use: make it as large as was ever needed at once, within reason. */
static void tcv_arena_grow(size_t size) {
  void *base;
  pthread_once(&tcv_arena_once, tcv_arena_init);
  if (!tcv_arena_keyed) return;                       /* nothing would free it at thread exit */
  tcv_arena_free(tcv_arena.base);
  if (posix_memalign(&base, 64, size) == 0) tcv_arena.base = base, tcv_arena.size = size;
  pthread_setspecific(tcv_arena_key, tcv_arena.base);
}

/* What a thread that computes for any function called so far needs, besides a function's whole workspace: made ready
 * ahead, so that no thread allocates in a later call, whichever tasks it gets. */
static size_t tcv_scratch;

static void tcv_arena_ready(void) {
  size_t need = tcv_load(&tcv_scratch);
  if (tcv_arena.used == 0 && tcv_arena.size < need) tcv_arena_grow(need);
}

/* `code`: TCV_PLANNED for a function's whole workspace, which its header states: kept however large it is. TCV_SCRATCH:
 * only says what a thread needs; with `bits`, makes it ready here. */
enum { TCV_PLANNED = 64, TCV_SCRATCH = 65 };
static void *tcv_alloc_here(int device_type, int device_id, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device_id;
  size_t need = ((size_t)bytes + 127) & ~(size_t)63, most;
  void *base;
  tcv_block *block;
  if (need < bytes) return NULL;
  if (code == TCV_SCRATCH) {
    if (need > TCV_ARENA_MAX) need = TCV_ARENA_MAX;
    if (bytes && tcv_load(&tcv_scratch) < need) tcv_store(&tcv_scratch, need);
    if (bits) tcv_arena_ready();
    return NULL;
  }
  if (tcv_arena.wanted < tcv_arena.used + need) tcv_arena.wanted = tcv_arena.used + need;
  if (code == TCV_PLANNED) {
    if (tcv_arena.planned < need) tcv_arena.planned = need;
    if (tcv_arena.wanted < tcv_arena.planned + tcv_scratch) tcv_arena.wanted = tcv_arena.planned + tcv_scratch;
  }
  most = TCV_ARENA_MAX + tcv_arena.planned;
  if (tcv_arena.wanted < most) most = tcv_arena.wanted;
  if (tcv_arena.used == 0 && tcv_arena.size < most) tcv_arena_grow(most);
  if (tcv_arena.size - tcv_arena.used >= need) {
    block = (tcv_block *)(tcv_arena.base + tcv_arena.used);
    block->before = tcv_arena.used, block->owned = 0;
    tcv_arena.used += need;
  } else {
    if (posix_memalign(&base, 64, need)) return NULL;
    block = base;
    block->owned = 1;
  }
  return (char *)block + 64;
}

static int tcv_free_here(int device_type, int device_id, void *pointer) {
  (void)device_type, (void)device_id;
  tcv_block *block = (tcv_block *)((char *)pointer - 64);
  if (block->owned) free(block);
  else tcv_arena.used = block->before;                /* kernels free in reverse order */
  return 0;
}

/* The workspace that this library's kernels use: its own, or another library's, set by our runtime so that a thread
 * has only one, and a process uses only one of the few thread-specific keys. */
typedef void *(*tcv_alloc)(int, int, uint64_t, int, int);
typedef int (*tcv_free)(int, int, void *);
TCV_SHARED void *tcv_shared_alloc = (void *)tcv_alloc_here;
TCV_SHARED void *tcv_shared_free = (void *)tcv_free_here;

static void *tcv_workspace_alloc(int device_type, int device_id, uint64_t bytes, int code, int bits) {
  void *block = ((tcv_alloc)tcv_shared_alloc)(device_type, device_id, bytes, code, bits);
  if (!block) tcv_fail(0, "out of memory: a workspace of %llu bytes", (unsigned long long)bytes);
  return block;
}

static void *tcv_lend_workspace(size_t bytes) {
  return tcv_workspace_alloc(TCV_DEVICE_CPU, 0, bytes, TCV_PLANNED, 0);
}

static void tcv_say_scratch(size_t bytes, int ready) {
  ((tcv_alloc)tcv_shared_alloc)(TCV_DEVICE_CPU, 0, bytes, TCV_SCRATCH, ready);
}

static int tcv_workspace_free(int device_type, int device_id, void *pointer) {
  return ((tcv_free)tcv_shared_free)(device_type, device_id, pointer);
}
