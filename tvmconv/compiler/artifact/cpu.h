/* Part of every library for CPUs, after call.h: steps of functions, and variants, as the generated tables state them. */
#ifndef TCV_CPU_H
#define TCV_CPU_H

/* ---- what TVM's compiled code expects of its surroundings ---- */

typedef struct { void *sync_handle; int32_t num_task; } tcv_env;
typedef int (*tcv_task)(int task_id, tcv_env *env, void *data);
typedef struct {
  void *data;
  int32_t device_type, device_id, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  const int64_t *shape, *strides;
  uint64_t byte_offset;
} tcv_tensor;                                       /* DLTensor */
typedef struct {
  int32_t type_index;
  uint32_t padding;
  union { int64_t bits; void *pointer; } value;
} tcv_any;                                          /* TVMFFIAny */
typedef int (*tcv_entry)(void *self, const tcv_any *args, int32_t n, tcv_any *ret);
enum { TCV_DEVICE_CPU = 1, TCV_TYPE_NONE = 0, TCV_TYPE_DLTENSOR = 7, TCV_TYPE_TENSOR = 70 };
enum { TCV_OBJECT_HEADER = 24 };                    /* before the DLTensor in a tensor object */

/* ---- the steps of a function: kernels' entries, called in order ---- */

typedef struct {
  tcv_tensor tensor;                                /* its data: offset from the argument's address */
  int argument;                                     /* after the last: for what is in the library, packed, in a file */
} tcv_operand;
struct tcv_step {
  tcv_entry entry;
  const tcv_operand *operands;
  const int32_t *loops;                             /* see tcv_loops */
  const char *what;                                 /* its name and more, as members of a JSON object */
  int n_operands;
};
struct tcv_packing { const struct tcv_step *step; int *done; };
typedef struct { int first, last; int64_t *ns; } tcv_part;  /* of a function's steps; ns: what each takes, or NULL */

/* ---- variants ---- */

/* A CPU feature. x86: cpuid leaf, subleaf, register (0 to 3: a, b, c, d), bit, and the bits of XCR0 that
 * the system must have set. Elsewhere: leaf is AT_HWCAP or AT_HWCAP2, and the bit. */
typedef struct { const char *name; uint32_t leaf, subleaf, reg, bit, os; } tcv_feature;
/* The kernels are there for one or more targets, best first; part: see tcv_cpu_part. */
typedef struct { const char *name; uint32_t part; const tcv_feature *required; } tcv_variant;

/* The name of the variant that this CPU runs; NULL, with the error text set, if it can run none. */
TCV_OWN const char *tcv_variant_name(void);
TCV_OWN void tcv_set_num_threads(int n);
#ifndef TCV_STATIC
/* A function called by TVM: tensors instead of pointers, None for NULL. */
TCV_OWN int tcv_call_packed(const tcv_function *f, const tcv_any *args, int32_t n);
#endif
#endif
