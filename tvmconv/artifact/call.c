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

#define TCV_MAX_ARGS 16
typedef struct {                                      /* of the C function */
  const char *name;
  size_t bytes;                                       /* 0: not looked at, may be NULL */
  unsigned align;
  const void *fallback;                               /* what NULL stands for, if anything */
  const int64_t *shape;                               /* NULL for packed weights, which have none */
  int32_t ndim;
  uint8_t code, bits;
} tcv_argument;
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
  uintptr_t at[TCV_MAX_ARGS], out = (uintptr_t)pointer[last], out_bytes = f->arguments[last].bytes;
  if (out_bytes == 0) return TCV_OK;                  /* an empty batch */
  if (tcv_check_cpu()) return TCV_ERR_CPU;
  for (int i = 0; i <= last; ++i) {
    const tcv_argument *a = &f->arguments[i];
    uintptr_t p = at[i] = (uintptr_t)(pointer[i] ? pointer[i] : a->fallback);
    if (a->bytes == 0) continue;
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
    tensor[i].data = (void *)(at[o->argument] + o->offset);
    args[i].type_index = TCV_TYPE_DLTENSOR, args[i].padding = 0;
    args[i].value.bits = (intptr_t)&tensor[i];
  }
  tcv_error[0] = 0;
  if (f->entry(NULL, args, f->n_operands, &ret) == 0) return TCV_OK;
  if (!tcv_error[0]) tcv_fail(0, "%s: the kernel failed", f->name);
  return TCV_ERR_KERNEL;
}

/* ---- the same function called by TVM: tensors instead of pointers, None for NULL ---- */

/* TVM reads errors from its own library, which is there if it is TVM that calls. */
extern void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) __attribute__((weak));

static int tcv_unpack(const tcv_function *f, const tcv_argument *a, const tcv_any *any, const void **pointer) {
  const tcv_tensor *t = any->value.pointer;
  *pointer = NULL;
  if (any->type_index == TCV_TYPE_NONE) return 0;
  if (any->type_index == TCV_TYPE_TENSOR) t = (const tcv_tensor *)((const char *)t + TCV_OBJECT_HEADER);
  else if (any->type_index != TCV_TYPE_DLTENSOR) return tcv_fail(-1, "%s: %s is no tensor", f->name, a->name);
  int fits = t->device_type == TCV_DEVICE_CPU;
  if (a->shape) fits &= t->ndim == a->ndim && t->code == a->code && t->bits == a->bits && t->lanes == 1;
  int64_t elements = 1;
  for (int i = t->ndim - 1; i >= 0; --i) {
    if (t->strides && t->shape[i] != 1) fits &= t->strides[i] == elements;
    if (fits && a->shape) fits &= t->shape[i] == a->shape[i];
    elements *= t->shape[i];
  }
  if (a->bytes) fits &= (uint64_t)elements * ((t->bits * t->lanes + 7u) / 8) == a->bytes;
  if (!fits)
    return tcv_fail(-1, "%s: %s does not fit, expected %llu bytes of compact CPU memory, in the shape and type "
                    "that the header states", f->name, a->name, (unsigned long long)a->bytes);
  *pointer = (const char *)t->data + t->byte_offset;
  return 0;
}

static int tcv_call_packed(const tcv_function *f, const tcv_any *args, int32_t n) {
  const void *pointer[TCV_MAX_ARGS];
  int code = 0;
  if (n != f->n_arguments) code = tcv_fail(-1, "%s: %d arguments, expected %d", f->name, n, f->n_arguments);
  for (int i = 0; i < n && code == 0; ++i) code = tcv_unpack(f, &f->arguments[i], &args[i], &pointer[i]);
  if (code == 0 && tcv_call(f, pointer)) code = -1;
  if (code && TVMFFIErrorSetRaisedFromCStr) TVMFFIErrorSetRaisedFromCStr("ValueError", tcv_error);
  return code;
}
