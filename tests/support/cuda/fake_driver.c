/* A libcuda.so.1 for tests, on a machine without a GPU: two devices in host memory, each allocation between
 * guard pages. Kernels are looked up as emu_NAME among the libraries that the process has loaded (emulate.h
 * makes them) and run at once; launches are recorded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { OK, INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE = 100, NO_BINARY = 209, INVALID_CONTEXT = 201, NOT_FOUND = 500 };
enum { PAGE = 4096, DEVICES = 2, CANARY = 0xFF, EM_CUDA = 190 };

typedef struct { char *base; size_t mapped; uintptr_t pointer; size_t bytes; int device; } block;
typedef struct { const char *name; unsigned grid[3], block[3]; void *stream; int device; } launch;
typedef void (*emulated)(void **, const unsigned *, const unsigned *);

/* What a test sets and reads. */
int fake_devices = DEVICES, fake_sm = 90, fake_version = 13000, fake_wrong, fake_flush_start, fake_loads, fake_launches, fake_allocations;
size_t fake_memory = (size_t)1 << 30;
launch fake_launch[4096];

static block blocks[65536];
static int n_blocks, contexts[DEVICES];
static __thread void *stack[64];
static __thread int depth;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int cuInit(unsigned flags) { return flags || !fake_devices ? NO_DEVICE : OK; }
int cuGetErrorString(int status, const char **text) {
  *text = status == OUT_OF_MEMORY ? "out of memory" : status == NO_DEVICE ? "no CUDA-capable device is detected"
        : status == NO_BINARY ? "no kernel image is available" : "an error of the fake driver";
  return OK;
}
int cuDeviceGetCount(int *count) { return *count = fake_devices, OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  if (device < 0 || device >= fake_devices || (attribute != 75 && attribute != 76)) return INVALID_VALUE;
  return *value = attribute == 75 ? fake_sm / 10 : fake_sm % 10, OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  if (device < 0 || device >= fake_devices) return INVALID_VALUE;
  return *context = &contexts[device], OK;
}
int cuCtxGetCurrent(void **context) { return *context = depth ? stack[depth - 1] : NULL, OK; }
int cuCtxPushCurrent_v2(void *context) { return stack[depth++] = context, OK; }
int cuCtxPopCurrent_v2(void **context) {
  if (!depth) return INVALID_CONTEXT;
  return *context = stack[--depth], OK;
}
int cuCtxGetDevice(int *device) {
  if (!depth) return INVALID_CONTEXT;
  return *device = (int)((int *)stack[depth - 1] - contexts), OK;
}
int cuDeviceGetName(char *name, int size, int device) {
  return (void)device, snprintf(name, (size_t)size, "no GPU: emulated on the CPU"), OK;
}
int cuDriverGetVersion(int *version) { return *version = fake_version, OK; }

/* Events are times on this machine's clock: launches are over when they return. */
int cuEventCreate(void **event, unsigned flags) { return (void)flags, *event = calloc(1, sizeof(double)), OK; }
int cuEventRecord(double *event, void *stream) {
  struct timespec now;
  (void)stream;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return *event = (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6, OK;
}
int cuEventSynchronize(void *event) { return (void)event, OK; }
int cuEventElapsedTime(float *milliseconds, const double *start, const double *stop) {
  return *milliseconds = (float)(*stop - *start), OK;
}
int cuStreamSynchronize(void *stream) { return (void)stream, OK; }

static block *find(uintptr_t pointer) {
  for (int i = 0; i < n_blocks; ++i)
    if (blocks[i].base && pointer >= blocks[i].pointer && pointer < blocks[i].pointer + blocks[i].bytes)
      return &blocks[i];
  return NULL;
}
int cuPointerGetAttribute(void *data, int attribute, uintptr_t pointer) {
  pthread_mutex_lock(&lock);
  block *found = attribute == 9 ? find(pointer) : NULL;
  if (found) *(int *)data = found->device;
  pthread_mutex_unlock(&lock);
  return found ? OK : INVALID_VALUE;
}

int cuMemAlloc_v2(uintptr_t *pointer, size_t bytes) {
  int device;
  if (cuCtxGetDevice(&device)) return INVALID_CONTEXT;
  if (bytes == 0) return INVALID_VALUE;
  size_t inner = (bytes + PAGE - 1) / PAGE * PAGE, mapped = inner + 2 * PAGE;
  if (bytes > fake_memory) return OUT_OF_MEMORY;
  char *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return OUT_OF_MEMORY;
  memset(base, CANARY, mapped);
  mprotect(base, PAGE, PROT_NONE);
  mprotect(base + PAGE + inner, PAGE, PROT_NONE);
  *pointer = (uintptr_t)base + PAGE + (fake_flush_start ? 0 : (inner - bytes) & ~(size_t)15);
  pthread_mutex_lock(&lock);
  int i = 0;
  while (i < n_blocks && blocks[i].base) ++i;
  if (i == n_blocks) ++n_blocks;
  blocks[i] = (block){base, mapped, *pointer, bytes, device};
  ++fake_allocations;
  pthread_mutex_unlock(&lock);
  return OK;
}
static int canary_dead(const block *b) {
  const unsigned char *p = (const unsigned char *)b->base + PAGE, *end = (unsigned char *)b->base + b->mapped - PAGE;
  for (; p < end; ++p)
    if ((p < (unsigned char *)b->pointer || p >= (unsigned char *)b->pointer + b->bytes) && *p != CANARY) return 1;
  return 0;
}
int cuMemFree_v2(uintptr_t pointer) {
  pthread_mutex_lock(&lock);
  block *found = find(pointer);
  if (!found || found->pointer != pointer) abort();
  if (canary_dead(found)) {
    fprintf(stderr, "written beside an allocation of %zu bytes\n", found->bytes);
    abort();
  }
  munmap(found->base, found->mapped);
  found->base = NULL;
  --fake_allocations;
  pthread_mutex_unlock(&lock);
  return OK;
}
int cuMemcpyHtoD_v2(uintptr_t to, const void *from, size_t bytes) { return memcpy((void *)to, from, bytes), OK; }
int cuMemcpyDtoH_v2(void *to, uintptr_t from, size_t bytes) { return memcpy(to, (void *)from, bytes), OK; }
int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, void *stream) {
  return (void)stream, memcpy((void *)to, (void *)from, bytes), OK;
}

/* A library is its ELF file: code for this device, or there is none to load. */
int cuLibraryLoadData(void **library, const void *code, void *a, void **b, unsigned c, void *d, void **e, unsigned f) {
  const unsigned char *elf = code;
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  if (memcmp(elf, "\177ELF", 4) || (elf[18] | elf[19] << 8) != EM_CUDA) return NO_BINARY;
  unsigned flags;
  memcpy(&flags, elf + 48, 4);
  int sm = elf[8] >= 8 ? (int)(flags >> 8 & 0xff) : (int)(flags & 0xff);   /* by version of the ABI */
  if (sm / 10 != fake_sm / 10 || sm > fake_sm) return NO_BINARY;
  ++fake_loads;
  return *library = (void *)code, OK;
}
int cuLibraryGetKernel(void **kernel, void *library, const char *name) {
  (void)library;
  return *kernel = (void *)name, OK;                  /* the library's own string, which stays */
}
int cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra) {
  unsigned grid[3] = {gx, gy, gz}, threads[3] = {bx, by, bz};
  char symbol[256];
  int device;
  (void)extra;
  if (cuCtxGetDevice(&device)) return INVALID_CONTEXT;
  if (shared || bx * by * bz > 1024 || gy > 65535 || gz > 65535 || !gx || !gy || !gz) return INVALID_VALUE;
  launch *l = &fake_launch[__atomic_fetch_add(&fake_launches, 1, __ATOMIC_SEQ_CST) % 4096];
  *l = (launch){kernel, {gx, gy, gz}, {bx, by, bz}, stream, device};
  snprintf(symbol, sizeof symbol, "emu_%s", (const char *)kernel);
  emulated run = (emulated)dlsym(RTLD_DEFAULT, symbol);
  if (!run) return NOT_FOUND;
  if (fake_wrong) --grid[0];                          /* a kernel that leaves out its last block */
  run(params, grid, threads);
  return OK;
}
