/* Part of every CUDA library, after call.c: the driver, loaded when it is needed, and the launch of kernels. Not
 * linked against CUDA: a GPU machine has only its driver's libcuda.so.1. */

#define TCV_DEVICES 64

enum { TCV_ERR_DEVICE = TCV_ERR_CPU, TCV_ERR_MEMORY = TCV_ERR_KERNEL + 1 };

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
  __builtin_memcpy(&cu, found, sizeof cu);            /* one pointer per field, in the same order */
  int status = cu.Init(0);
  if (status) return tcv_cuda_fail(TCV_ERR_DEVICE, "no GPU that the NVIDIA driver can use", status);
  int version = 0;                                    /* a driver loads no code of a newer CUDA than its own */
  if (!cu.DriverGetVersion(&version) && version < TCV_CUDA * 1000)
    return tcv_fail(TCV_ERR_DEVICE, "the NVIDIA driver is for CUDA %d.%d, expected CUDA %d or newer",
                    version / 1000, version % 1000 / 10, TCV_CUDA);
  __atomic_store_n(&tcv_ready, 1, __ATOMIC_RELEASE);
  return TCV_OK;
}

static int tcv_driver(void) {                         /* a failure is retried on every call */
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
  void *kernels[TCV_VARIANTS][TCV_MAX_OPERANDS];
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

/* ---- the steps of a function: launches, in order ---- */

typedef struct { size_t offset; int argument; } tcv_operand;
struct tcv_step {
  tcv_module *module;
  int kernel, n_operands;
  unsigned grid[3], block[3];
  const tcv_operand *operands;
};

static int tcv_program_here(void) { return 0; }       /* the code for the GPU is chosen at each step */

static int tcv_launch(const tcv_function *f, const tcv_step *s, const uintptr_t *at, int variant, void *stream) {
  void *const *kernels;
  uintptr_t value[TCV_MAX_OPERANDS];
  void *pointers[TCV_MAX_OPERANDS];
  int status, code = tcv_load(s->module, variant, &kernels);
  if (code) return code;
  for (int i = 0; i < s->n_operands; ++i) {
    value[i] = at[s->operands[i].argument] + s->operands[i].offset;
    pointers[i] = &value[i];
  }
  status = cu.LaunchKernel(kernels[s->kernel], s->grid[0], s->grid[1], s->grid[2], s->block[0], s->block[1],
                           s->block[2], 0, stream, pointers, NULL);
  return status ? tcv_cuda_fail(TCV_ERR_KERNEL, f->name, status) : TCV_OK;
}

static int tcv_on_device(const tcv_function *f, const uintptr_t *at, int i, int *device) {
  if (cu.PointerGetAttribute(device, TCV_POINTER_DEVICE, at[i]))
    return tcv_fail(TCV_ERR_MEMORY, "%s: %s is not in the memory of a GPU", f->name, f->arguments[i].name);
  return TCV_OK;
}

static int tcv_run(const tcv_function *f, const tcv_program *program, uintptr_t *at, void *stream) {
  int written = f->n_arguments - f->n_written, device, here, variant, code, status;
  void *context = NULL;
  while (f->arguments[written].bytes == 0) ++written;
  if ((code = tcv_driver()) || (code = tcv_on_device(f, at, written, &device))) return code;
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
  for (int i = 0; i < f->n_arguments && !code; ++i) {
    if (f->arguments[i].bytes == 0 || (code = tcv_on_device(f, at, i, &device)) || device == here) continue;
    code = tcv_fail(TCV_ERR_MEMORY, "%s: %s is on device %d, expected %d, that of the current context", f->name,
                    f->arguments[i].name, device, here);
  }
  if (!code) code = tcv_variant(here, &variant);
  for (int i = 0; i < program->n_steps && !code; ++i) code = tcv_launch(f, &program->steps[i], at, variant, stream);
  if (pushed) cu.CtxPopCurrent(&context);
  return code;
}
