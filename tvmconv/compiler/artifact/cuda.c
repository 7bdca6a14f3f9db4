/* Part of every exported CUDA library: the driver, found when it is needed, and the checked launch of kernels.
 *
 * The library's C source is this text, the table of compute capabilities that it has code for, and generated
 * entry points, all in one file; so everything here is static. C99 with the GNU atomics and __thread, for
 * Linux. It is linked against nothing of CUDA: a GPU box has libcuda.so.1 from its driver, and no more. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TCV_EXPORT __attribute__((visibility("default")))
#define TCV_TEXT 384
#define TCV_MAX_ARGS 24
#define TCV_DEVICES 64

enum { TCV_OK, TCV_ERR_NULL, TCV_ERR_ALIGN, TCV_ERR_OVERLAP, TCV_ERR_DEVICE, TCV_ERR_KERNEL, TCV_ERR_MEMORY };

static __thread char tcv_error[TCV_TEXT];

__attribute__((format(printf, 2, 3))) static int tcv_fail(int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(tcv_error, sizeof tcv_error, format, args);
  va_end(args);
  return code;
}

/* ---- the driver ---- */

#define TCV_DRIVER(X)                                                                                   \
  X(Init, "cuInit", (unsigned))                                                                         \
  X(GetErrorString, "cuGetErrorString", (int, const char **))                                           \
  X(DriverGetVersion, "cuDriverGetVersion", (int *))                                                    \
  X(DeviceGetCount, "cuDeviceGetCount", (int *))                                                        \
  X(DeviceGetAttribute, "cuDeviceGetAttribute", (int *, int, int))                                      \
  X(DevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (void **, int))                                 \
  X(CtxGetCurrent, "cuCtxGetCurrent", (void **))                                                        \
  X(CtxGetDevice, "cuCtxGetDevice", (int *))                                                            \
  X(CtxPushCurrent, "cuCtxPushCurrent_v2", (void *))                                                    \
  X(CtxPopCurrent, "cuCtxPopCurrent_v2", (void **))                                                     \
  X(PointerGetAttribute, "cuPointerGetAttribute", (void *, int, uintptr_t))                             \
  X(LibraryLoadData, "cuLibraryLoadData",                                                               \
    (void **, const void *, void *, void **, unsigned, void *, void **, unsigned))                      \
  X(LibraryGetKernel, "cuLibraryGetKernel", (void **, void *, const char *))                            \
  X(LaunchKernel, "cuLaunchKernel",                                                                     \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))

#define TCV_POINTER(field, name, arguments) int(*field) arguments;
static struct { TCV_DRIVER(TCV_POINTER) } cu;

enum { TCV_POINTER_DEVICE = 9, TCV_CAPABILITY_MAJOR = 75, TCV_CAPABILITY_MINOR = 76 };

static pthread_mutex_t tcv_lock = PTHREAD_MUTEX_INITIALIZER;
static int tcv_ready;                                 /* the driver was found and initialised */

static int tcv_cuda_fail(int code, const char *what, int status) {
  const char *why = NULL;
  if (cu.GetErrorString) cu.GetErrorString(status, &why);
  return tcv_fail(code, "%s: CUDA error %d, %s", what, status, why ? why : "which the driver does not know");
}

static int tcv_open_driver(void) {
  static const char *const names[] = {
#define TCV_NAME(field, name, arguments) name,
      TCV_DRIVER(TCV_NAME)};
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver)
    return tcv_fail(TCV_ERR_DEVICE, "no NVIDIA driver on this machine: libcuda.so.1 cannot be loaded");
  void *found[sizeof names / sizeof *names];
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
    if (!(found[i] = dlsym(driver, names[i])))
      return tcv_fail(TCV_ERR_DEVICE, "the NVIDIA driver has no %s, expected one for CUDA %d or newer", names[i],
                      TCV_CUDA);
  __builtin_memcpy(&cu, found, sizeof cu);            /* one pointer a field, in the same order */
  int status = cu.Init(0);
  if (status) return tcv_cuda_fail(TCV_ERR_DEVICE, "no GPU that the NVIDIA driver can use", status);
  int version = 0;                                    /* a driver loads no code of a newer CUDA than its own */
  if (!cu.DriverGetVersion(&version) && version < TCV_CUDA * 1000)
    return tcv_fail(TCV_ERR_DEVICE, "the NVIDIA driver is for CUDA %d.%d, expected CUDA %d or newer",
                    version / 1000, version % 1000 / 10, TCV_CUDA);
  __atomic_store_n(&tcv_ready, 1, __ATOMIC_RELEASE);
  return TCV_OK;
}

static int tcv_driver(void) {                         /* a failure is looked into again at every call */
  if (__atomic_load_n(&tcv_ready, __ATOMIC_ACQUIRE)) return TCV_OK;
  pthread_mutex_lock(&tcv_lock);
  int code = tcv_ready ? TCV_OK : tcv_open_driver();
  pthread_mutex_unlock(&tcv_lock);
  return code;
}

/* ---- code for this GPU ---- */

static const int tcv_capabilities[TCV_VARIANTS] = {TCV_SMS};

/* The best code for a device: of its own generation, no newer than itself. */
static int tcv_variant(int device, int *variant) {
  static int known[TCV_DEVICES];                      /* variant + 1 */
  int major = 0, minor = 0, best = -1, status;
  if (device < TCV_DEVICES && (best = __atomic_load_n(&known[device], __ATOMIC_RELAXED) - 1) >= 0)
    return *variant = best, TCV_OK;
  if ((status = cu.DeviceGetAttribute(&major, TCV_CAPABILITY_MAJOR, device)) ||
      (status = cu.DeviceGetAttribute(&minor, TCV_CAPABILITY_MINOR, device)))
    return tcv_cuda_fail(TCV_ERR_DEVICE, "asking a GPU what it is", status);
  for (int i = 0; i < TCV_VARIANTS; ++i)              /* ascending */
    if (tcv_capabilities[i] / 10 == major && tcv_capabilities[i] % 10 <= minor) best = i;
  if (best < 0)
    return tcv_fail(TCV_ERR_DEVICE, "GPU %d is of compute capability %d.%d, the library has code for %s", device,
                    major, minor, TCV_TARGETS);
  if (device < TCV_DEVICES) __atomic_store_n(&known[device], best + 1, __ATOMIC_RELAXED);
  return *variant = best, TCV_OK;
}

/* Whether a device, or with a negative number any, runs this library's code. */
static int tcv_check_device(int device) {
  int count = 0, variant, status, code = tcv_driver();
  if (code) return code;
  if ((status = cu.DeviceGetCount(&count))) return tcv_cuda_fail(TCV_ERR_DEVICE, "counting GPUs", status);
  if (count == 0) return tcv_fail(TCV_ERR_DEVICE, "the NVIDIA driver sees no GPU");
  if (device >= count) return tcv_fail(TCV_ERR_DEVICE, "device %d, expected one of %d GPUs", device, count);
  if (device >= 0) return tcv_variant(device, &variant);
  for (device = 0; device < count; ++device)
    if ((code = tcv_variant(device, &variant)) == TCV_OK) break;
  return code;
}

typedef struct {
  const char *const *names;                           /* of the kernels, as launches count them */
  const char *code[TCV_VARIANTS];
  int n_kernels;
  int loaded[TCV_VARIANTS];
  void *kernels[TCV_VARIANTS][TCV_MAX_ARGS];
} tcv_module;

static int tcv_load(tcv_module *m, int variant, void *const **kernels) {
  if (!__atomic_load_n(&m->loaded[variant], __ATOMIC_ACQUIRE)) {
    void *library = NULL;
    int status = 0;
    pthread_mutex_lock(&tcv_lock);
    if (!m->loaded[variant]) {
      status = cu.LibraryLoadData(&library, m->code[variant], NULL, NULL, 0, NULL, NULL, 0);
      for (int i = 0; i < m->n_kernels && !status; ++i)
        status = cu.LibraryGetKernel(&m->kernels[variant][i], library, m->names[i]);
      if (!status) __atomic_store_n(&m->loaded[variant], 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&tcv_lock);
    if (status) return tcv_cuda_fail(TCV_ERR_KERNEL, "loading a kernel", status);
  }
  *kernels = m->kernels[variant];
  return TCV_OK;
}

/* ---- a checked call ---- */

typedef struct { const char *name; size_t bytes; unsigned align; } tcv_argument; /* bytes 0: not looked at */
typedef struct { size_t offset; int argument; } tcv_operand;
typedef struct { int kernel; unsigned grid[3], block[3]; const signed char *operands; } tcv_launch;
typedef struct {
  const char *name;
  tcv_module *module;
  const tcv_argument *arguments;                      /* in call order, what is written last */
  const tcv_operand *operands;
  const tcv_launch *launches;
  int n_arguments, n_launches;
} tcv_function;

static int tcv_launch_all(const tcv_function *f, const uintptr_t *at, int device, void *stream) {
  void *const *kernels;
  int variant, status, code = tcv_variant(device, &variant);
  if (code || (code = tcv_load(f->module, variant, &kernels))) return code;
  for (const tcv_launch *l = f->launches; l < f->launches + f->n_launches; ++l) {
    uintptr_t value[TCV_MAX_ARGS];
    void *pointers[TCV_MAX_ARGS];
    for (int i = 0; l->operands[i] >= 0; ++i) {
      const tcv_operand *o = &f->operands[l->operands[i]];
      value[i] = at[o->argument] + o->offset;
      pointers[i] = &value[i];
    }
    status = cu.LaunchKernel(kernels[l->kernel], l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1],
                             l->block[2], 0, stream, pointers, NULL);
    if (status) return tcv_cuda_fail(TCV_ERR_KERNEL, f->name, status);
  }
  return TCV_OK;
}

static int tcv_on_device(const tcv_function *f, const uintptr_t *at, int i, int *device) {
  if (cu.PointerGetAttribute(device, TCV_POINTER_DEVICE, at[i]))
    return tcv_fail(TCV_ERR_MEMORY, "%s: %s is not in the memory of a GPU", f->name, f->arguments[i].name);
  return TCV_OK;
}

static int tcv_call(const tcv_function *f, const void *const *pointer, void *stream) {
  int last = f->n_arguments - 1, device, here, code, status;
  uintptr_t at[TCV_MAX_ARGS], out = (uintptr_t)pointer[last], out_bytes = f->arguments[last].bytes;
  void *context = NULL;
  if (out_bytes == 0) return TCV_OK;                  /* an empty batch */
  for (int i = 0; i <= last; ++i) {
    const tcv_argument *a = &f->arguments[i];
    uintptr_t p = at[i] = (uintptr_t)pointer[i];
    if (a->bytes == 0) continue;
    if (p == 0) return tcv_fail(TCV_ERR_NULL, "%s: %s is NULL", f->name, a->name);
    if (p & (a->align - 1))
      return tcv_fail(TCV_ERR_ALIGN, "%s: %s is at %p, expected a multiple of %u", f->name, a->name, pointer[i],
                      a->align);
    if (i < last && (p < out ? out - p < a->bytes : p - out < out_bytes))
      return tcv_fail(TCV_ERR_OVERLAP, "%s: %s overlaps %s", f->name, f->arguments[last].name, a->name);
  }
  if ((code = tcv_driver()) || (code = tcv_on_device(f, at, last, &device))) return code;
  if ((status = cu.CtxGetCurrent(&context))) return tcv_cuda_fail(TCV_ERR_DEVICE, f->name, status);
  int pushed = context == NULL;                       /* a thread that has not used CUDA yet */
  if (pushed) {
    static void *primary[TCV_DEVICES];                /* retained once, for good */
    if (device >= TCV_DEVICES) return tcv_fail(TCV_ERR_DEVICE, "%s: device %d", f->name, device);
    pthread_mutex_lock(&tcv_lock);
    status = primary[device] ? 0 : cu.DevicePrimaryCtxRetain(&primary[device], device);
    pthread_mutex_unlock(&tcv_lock);
    if (status || (status = cu.CtxPushCurrent(primary[device])))
      return tcv_cuda_fail(TCV_ERR_DEVICE, "the context of a GPU", status);
  }
  if ((status = cu.CtxGetDevice(&here))) code = tcv_cuda_fail(TCV_ERR_DEVICE, f->name, status);
  for (int i = 0; i <= last && !code; ++i) {
    if (f->arguments[i].bytes == 0 || (code = tcv_on_device(f, at, i, &device)) || device == here) continue;
    code = tcv_fail(TCV_ERR_MEMORY, "%s: %s is on device %d, expected %d, that of the current context", f->name,
                    f->arguments[i].name, device, here);
  }
  if (!code) code = tcv_launch_all(f, at, here, stream);
  if (pushed) cu.CtxPopCurrent(&context);
  return code;
}
