/* Part of every exported library, after errors.c: the checks of a call. The machine's part, cpu.c or cuda.c, runs
 * the steps. */

/* The program that runs here; negative, with the error text set, if there is none. */
static int tcv_program_here(void);
/* Runs steps. `at`: the arguments' addresses, all that are needed except a workspace of 0, and room for three more.
 * `how`: a GPU's stream; on a CPU a tcv_part, or NULL. */
static int tcv_run(const tcv_function *f, const tcv_program *program, uintptr_t *at, void *how);

TCV_OWN int tcv_call(const tcv_function *f, const void *const *pointer, void *how) {
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

__attribute__((unused)) TCV_OWN int tcv_call_arrays(const tcv_function *f, const void *const *in, void *const *out,
                                                    void *workspace, void *how) {
  const void *pointer[TCV_MAX_ARGS];
  int outputs = f->n_written - 1, inputs = f->n_arguments - f->n_written;
  if (!in || !out) return tcv_fail(TCV_ERR_NULL, "%s: %s is NULL", f->name, in ? "out" : "in");
  for (int i = 0; i < inputs; ++i) pointer[i] = in[i];
  for (int i = 0; i < outputs; ++i) pointer[inputs + i] = out[i];
  pointer[inputs + outputs] = workspace;
  return tcv_call(f, pointer, how);
}
