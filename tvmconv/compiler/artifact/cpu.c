/* Part of every library for CPUs, after pool.c and the generated table tcv_variants[]: which variant of the kernels
 * this CPU runs, and the steps of a function. */

/* ---- CPU check: the features that the kernels were compiled for ---- */

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
/* Whether the system lets this process use AMX's tiles: Linux wants to be asked, once, for all threads. */
static int tcv_may_use_tiles(void) {
#ifdef __x86_64__
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return 0;
#endif
}

static int tcv_has_feature(const tcv_feature *f) {
  unsigned r[4], low = 0, high;
  if (!__get_cpuid_count(1, 0, &r[0], &r[1], &r[2], &r[3])) return 0;
  if (r[2] >> 27 & 1) __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & f->os) != f->os) return 0;
  if (!__get_cpuid_count(f->leaf, f->subleaf, &r[0], &r[1], &r[2], &r[3]) || !(r[f->reg] >> f->bit & 1)) return 0;
  return !(f->os >> 18 & 1) || tcv_may_use_tiles();
}
#else
static int tcv_has_feature(const tcv_feature *f) {
  return (int)((unsigned long long)getauxval(f->leaf) >> f->bit & 1);
}
#endif

/* A number that tells CPUs with equal features apart, 0 if there is none: implementer and part on Arm, vendor and
 * family on AMD. */
static uint32_t tcv_cpu_part(void) {
#if defined(__aarch64__)
  uint64_t midr;
  if (!(getauxval(16) >> 11 & 1)) return 0;           /* AT_HWCAP, HWCAP_CPUID: the system reads it for us */
  __asm__("mrs %0, midr_el1" : "=r"(midr));
  return (uint32_t)(midr >> 24 & 0xff) << 12 | (uint32_t)(midr >> 4 & 0xfff);
#elif defined(__x86_64__)
  unsigned a, b, c, d, family;
  if (!__get_cpuid(0, &a, &b, &c, &d) || b != 0x68747541) return 0;   /* Auth(enticAMD) */
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  family = a >> 8 & 0xf;
  if (family == 0xf) family += a >> 20 & 0xff;
  return 0x414d44u << 8 | family;                     /* the letters AMD */
#else
  return 0;
#endif
}

/* Writes the first of the missing features' names to `missing`; returns the number of characters. */
static size_t tcv_lacks(const tcv_variant *v, char *missing, size_t size) {
  size_t used = 0;
  for (const tcv_feature *f = v->required; f->name; ++f)
    if (!tcv_has_feature(f) && used < size)
      used += (size_t)snprintf(missing + used, size - used, "%s%s", used ? ", " : "", f->name);
  return used;
}

static int tcv_needs(int variant) {
  int n = 0;
  while (tcv_variants[variant].required[n].name) ++n;
  return n;
}

/* Which of the variants runs here, found once: of those that this CPU can run and that need most, the one for exactly
 * this CPU, else the first; negative if it can run none. */
static int tcv_variant_here(void) {
  static int found;                                   /* plus 1; a miss is looked up again on every call */
  int known = __atomic_load_n(&found, __ATOMIC_RELAXED);
  if (known) return known - 1;
  char missing[TCV_TEXT - 64] = "";
  uint32_t part = tcv_cpu_part();
  for (int i = 0; tcv_variants[i].name; ++i) {
    if (tcv_lacks(&tcv_variants[i], missing, sizeof missing)) continue;
    if (known && tcv_needs(i) < tcv_needs(known - 1)) break;   /* they are in this order */
    if (!known || (part && tcv_variants[i].part == part)) known = i + 1;
    if (part && tcv_variants[i].part == part) break;
  }
  if (known) __atomic_store_n(&found, known, __ATOMIC_RELAXED);
  else tcv_fail(TCV_ERR_CPU, "this CPU lacks %s, which the kernels were compiled for", missing);
  return known - 1;
}

static int tcv_program_here(void) { return tcv_variant_here(); }

TCV_OWN const char *tcv_variant_name(void) {
  int i = tcv_variant_here();
  return i < 0 ? NULL : tcv_variants[i].name;
}

/* ---- running the steps of a function ---- */

static int tcv_run_step(const tcv_step *step, const uintptr_t *at) {
  tcv_tensor tensor[TCV_MAX_OPERANDS];
  tcv_any args[TCV_MAX_OPERANDS], ret = {0, 0, {0}};
  for (int i = 0; i < step->n_operands; ++i) {
    const tcv_operand *o = &step->operands[i];
    tensor[i] = o->tensor;
    tensor[i].data = (void *)(at[o->argument] + (uintptr_t)o->tensor.data);
    args[i].type_index = TCV_TYPE_DLTENSOR, args[i].padding = 0;
    args[i].value.bits = (intptr_t)&tensor[i];
  }
  return step->entry(NULL, args, step->n_operands, &ret);
}

/* Room for the times of `n` steps, if anybody wants to know them. */
static int64_t *tcv_timer(int n, const int64_t *ns) {
  if (__builtin_expect(!__atomic_load_n(&tcv_traced, __ATOMIC_RELAXED) && !ns, 1)) return NULL;
  return malloc(((size_t)n + 1) * sizeof(int64_t));
}

/* `how`: the part of the steps to run, NULL for all. */
static int tcv_run(const tcv_function *f, const tcv_program *program, uintptr_t *at, void *how) {
  const tcv_part all = {0, program->n_steps, NULL}, *part = how ? how : &all;
  char *error = tcv_error;
  const int32_t **loops = &tcv_loops;
  __asm__("" : "+r"(error), "+r"(loops));             /* once: thread-local access takes a call */
  int failed = 0, lent = f->workspace >= 0 && at[f->workspace] == 0 && f->arguments[f->workspace].bytes;
  int n = part->last - part->first;
  if (part->first < 0 || n < 0 || part->last > program->n_steps)
    return tcv_fail(TCV_ERR_STEPS, "%s: steps %d to %d, expected some of 0 to %d", f->name, part->first, part->last,
                    program->n_steps);
  if (lent && n < program->n_steps)
    return tcv_fail(TCV_ERR_NULL, "%s: workspace is NULL, expected one that stays between steps", f->name);
  uintptr_t *held = at + f->n_arguments;
  held[0] = 0;
#ifdef TCV_WEIGHTS_BYTES
  if (!__atomic_load_n(&tcv_weights, __ATOMIC_ACQUIRE) && (failed = tcv_map_weights(NULL))) return failed;
  held[TCV_AT_FILE] = (uintptr_t)tcv_weights;
#endif
#ifdef TCV_PACKED_BYTES
  held[TCV_AT_PACKED] = (uintptr_t)tcv_packed();
  if (program->packed && !__atomic_load_n(program->packed, __ATOMIC_ACQUIRE) && (failed = tcv_pack(f, program, held)))
    return failed;
#endif
  if (f->workspace >= 0) tcv_say_scratch(f->scratch, !lent);
  if (lent && !(at[f->workspace] = (uintptr_t)tcv_lend_workspace(f->arguments[f->workspace].bytes)))
    return TCV_ERR_KERNEL;
  const tcv_step *step = program->steps + part->first;
  int64_t *time = tcv_timer(n, part->ns);
  error[0] = 0;
  if (time) time[0] = tcv_now();
  for (int i = 0; i < n && !failed; ++i) {
    *loops = step[i].loops;
    failed = tcv_run_step(&step[i], at);
    if (time) time[i + 1] = tcv_now();
  }
  if (lent) tcv_workspace_free(TCV_DEVICE_CPU, 0, (void *)at[f->workspace]);
  if (time && !failed) {
    for (int i = 0; part->ns && i < n; ++i) part->ns[i] = time[i + 1] - time[i];
    if (tcv_load(&tcv_traced)) tcv_trace_call(f->name, step, n, time);
  }
  if (time) free(time);
  if (!failed) return TCV_OK;
  if (!error[0]) tcv_fail(0, "%s: the kernel failed", f->name);
  return TCV_ERR_KERNEL;
}
#ifndef TCV_STATIC
/* ---- the same function called by TVM: tensors instead of pointers, None for NULL ---- */

/* TVM reads errors from its own library, which is present if TVM is the caller. */
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

TCV_OWN int tcv_call_packed(const tcv_function *f, const tcv_any *args, int32_t n) {
  const void *pointer[TCV_MAX_ARGS];
  int code = 0, tensors = f->n_arguments - (f->workspace >= 0);
  if (n != tensors) code = tcv_fail(-1, "%s: %d arguments, expected %d", f->name, n, tensors);
  for (int i = 0; i < n && code == 0; ++i) code = tcv_unpack(f, &f->arguments[i], &args[i], &pointer[i]);
  if (code == 0 && f->workspace >= 0) pointer[f->workspace] = NULL;
  if (code == 0 && tcv_call(f, pointer, NULL)) code = -1;
  if (code && TVMFFIErrorSetRaisedFromCStr) TVMFFIErrorSetRaisedFromCStr("ValueError", tcv_error);
  return code;
}
#endif
