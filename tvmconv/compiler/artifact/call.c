/* Part of every exported library, after errors.c: what a C function is, and the checks of its call. The machine's
 * part, cpu.c or cuda.c, runs its steps. */

#define TCV_MAX_ARGS 128                   /* of a C function */
#define TCV_MAX_OPERANDS 48                /* of a step */

typedef struct {
  const char *name;
  size_t bytes;                                       /* 0: not read, may be NULL */
  unsigned align;
  const int64_t *shape;                               /* NULL for packed weights and workspace, which have none */
  int32_t ndim;
  uint8_t code, bits;
} tcv_argument;
typedef struct tcv_packing tcv_packing;               /* a step that packs weights once */
typedef struct tcv_step tcv_step;                     /* a kernel's entry to call, or a launch on a GPU */
typedef struct {
  const tcv_step *steps;
  int n_steps;
  const void *const *instead;                         /* used in place of NULL arguments; NULL: nothing */
  const tcv_packing *packing;                         /* before the first call, ended by one of nothing; NULL: none */
  int *packed;                                        /* whether that is done */
} tcv_program;
typedef struct {
  const char *name;
  const tcv_argument *arguments;                      /* in call order, what is written last */
  const tcv_program *programs;                        /* of each of the library's variants */
  int n_arguments, n_written;
  size_t scratch;                                     /* what each thread that computes for it needs at most */
  int workspace;                                      /* the argument of which each thread has its own, if NULL */
} tcv_function;

/* The program that runs here; negative, with the error text set, if there is none. */
static int tcv_program_here(void);
/* Runs steps. `at`: the arguments' addresses, all that are needed except a workspace of 0, and room for three more.
 * `how`: a GPU's stream; on a CPU a tcv_part, or NULL. */
static int tcv_run(const tcv_function *f, const tcv_program *program, uintptr_t *at, void *how);

static int tcv_call(const tcv_function *f, const void *const *pointer, void *how) {
  int n = f->n_arguments, first = n - f->n_written, here;
  uintptr_t at[TCV_MAX_ARGS + 3];
  size_t written = 0;
  for (int i = first; i < n; ++i) written |= f->arguments[i].bytes;
  if (written == 0) return TCV_OK;                    /* an empty batch */
  if ((here = tcv_program_here()) < 0) return TCV_ERR_CPU;
  const tcv_program *program = &f->programs[here];
  for (int i = 0; i < n; ++i) {
    const tcv_argument *a = &f->arguments[i];
    uintptr_t p = (uintptr_t)(pointer[i] || !program->instead ? pointer[i] : program->instead[i]);
    at[i] = p;
    if (a->bytes == 0 || (p == 0 && i == f->workspace)) continue;
    if (p == 0) return tcv_fail(TCV_ERR_NULL, "%s: %s is NULL", f->name, a->name);
    if (p & (a->align - 1))
      return tcv_fail(TCV_ERR_ALIGN, "%s: %s is at %p, expected a multiple of %u", f->name, a->name,
                      pointer[i], a->align);
  }
  for (int j = first; j < n; ++j) {                   /* what is written, against all before it */
    uintptr_t out = at[j], out_bytes = f->arguments[j].bytes;
    for (int i = 0; i < j; ++i) {
      uintptr_t p = at[i], bytes = f->arguments[i].bytes;
      if ((p < out ? out - p < bytes : p - out < out_bytes) && bytes)
        return tcv_fail(TCV_ERR_OVERLAP, "%s: %s overlaps %s", f->name, f->arguments[j].name, f->arguments[i].name);
    }
  }
  return tcv_run(f, program, at, how);
}

/* The same with inputs and outputs in one array each. */
__attribute__((unused)) static int tcv_call_arrays(const tcv_function *f, const void *const *in, void *const *out,
                                                   void *workspace, void *how) {
  const void *pointer[TCV_MAX_ARGS];
  int outputs = f->n_written - 1, inputs = f->n_arguments - f->n_written;
  if (!in || !out) return tcv_fail(TCV_ERR_NULL, "%s: %s is NULL", f->name, in ? "out" : "in");
  for (int i = 0; i < inputs; ++i) pointer[i] = in[i];
  for (int i = 0; i < outputs; ++i) pointer[inputs + i] = out[i];
  pointer[inputs + outputs] = workspace;
  return tcv_call(f, pointer, how);
}
