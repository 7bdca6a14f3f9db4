/* Part of every exported library, after support.c and the generated table tcv_required[]: the CPU check
 * and the checked call of a kernel. */

/* ---- CPU check: the features that the kernels were compiled for, looked up once ---- */

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
static int tcv_has_feature(const tcv_feature *f) {
  unsigned r[4], low = 0, high;
  if (!__get_cpuid_count(1, 0, &r[0], &r[1], &r[2], &r[3])) return 0;
  if (r[2] >> 27 & 1) __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & f->os) != f->os) return 0;
  return __get_cpuid_count(f->leaf, f->subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[f->reg] >> f->bit & 1);
}
#else
#include <sys/auxv.h>
static int tcv_has_feature(const tcv_feature *f) {
  return (int)((unsigned long long)getauxval(f->leaf) >> f->bit & 1);
}
#endif

static int tcv_check_cpu(void) {
  static int fine;                                    /* a miss is looked up again at every call */
  if (__atomic_load_n(&fine, __ATOMIC_RELAXED)) return TCV_OK;
  char missing[TCV_TEXT - 64] = "";
  size_t used = 0;
  for (const tcv_feature *f = tcv_required; f->name; ++f)
    if (!tcv_has_feature(f) && used < sizeof missing)
      used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", used ? ", " : "", f->name);
  if (used) return tcv_fail(TCV_ERR_CPU, "this CPU lacks %s, which the kernels were compiled for", missing);
  __atomic_store_n(&fine, 1, __ATOMIC_RELAXED);
  return TCV_OK;
}

/* ---- a checked call of one kernel entry ---- */

#define TCV_MAX_ARGS 12
typedef struct { const char *name; size_t bytes; unsigned align; } tcv_argument;     /* of the C function */
typedef struct { tcv_tensor tensor; size_t offset; int argument; } tcv_operand;      /* of the kernel */
typedef struct {
  const char *name;
  tcv_entry entry;
  const tcv_argument *arguments;                      /* in call order, what is written last */
  const tcv_operand *operands;
  int n_arguments, n_operands;
} tcv_function;

static int tcv_call(const tcv_function *f, const void *const *pointer) {
  int last = f->n_arguments - 1;
  uintptr_t out = (uintptr_t)pointer[last], out_bytes = f->arguments[last].bytes;
  if (out_bytes == 0) return TCV_OK;                  /* an empty batch */
  if (tcv_check_cpu()) return TCV_ERR_CPU;
  for (int i = 0; i <= last; ++i) {
    const tcv_argument *a = &f->arguments[i];
    uintptr_t p = (uintptr_t)pointer[i];
    if (a->bytes == 0) continue;                      /* not read by this function, may be NULL */
    if (p == 0) return tcv_fail(TCV_ERR_NULL, "%s: %s is NULL", f->name, a->name);
    if (p & (a->align - 1))
      return tcv_fail(TCV_ERR_ALIGN, "%s: %s is at %p, expected a multiple of %u", f->name, a->name,
                      pointer[i], a->align);
    if (i < last && (p < out ? out - p < a->bytes : p - out < out_bytes))
      return tcv_fail(TCV_ERR_OVERLAP, "%s: %s overlaps %s", f->name, f->arguments[last].name, a->name);
  }
  tcv_tensor tensor[TCV_MAX_ARGS];
  tcv_any args[TCV_MAX_ARGS], ret = {0, 0, {0}};
  for (int i = 0; i < f->n_operands; ++i) {
    const tcv_operand *o = &f->operands[i];
    tensor[i] = o->tensor;
    tensor[i].data = (char *)(uintptr_t)pointer[o->argument] + o->offset;
    args[i].type_index = TCV_TYPE_DLTENSOR, args[i].padding = 0;
    args[i].value.bits = (intptr_t)&tensor[i];
  }
  tcv_error[0] = 0;
  if (f->entry(NULL, args, f->n_operands, &ret) == 0) return TCV_OK;
  if (!tcv_error[0]) tcv_fail(0, "%s: the kernel failed", f->name);
  return TCV_ERR_KERNEL;
}

/* TVM calls kernels by packed arguments, and reads the error from its own library, where that is loaded. */
extern void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) __attribute__((weak));

static int tcv_call_packed(tcv_entry entry, void *self, const tcv_any *args, int32_t n, tcv_any *ret) {
  tcv_error[0] = 0;
  int code = tcv_check_cpu() ? -1 : entry(self, args, n, ret);
  if (code && TVMFFIErrorSetRaisedFromCStr) TVMFFIErrorSetRaisedFromCStr("RuntimeError", tcv_error);
  return code;
}
