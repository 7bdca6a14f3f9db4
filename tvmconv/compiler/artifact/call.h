/* Part of every exported library, first: what a C function is, as the generated tables state it, and who calls it.
 *
 * A library's C source is one file, or two that are compiled apart: what all libraries for a target have in common, of
 * which compiled code is kept, and the library's own tables and entry points. Both begin with this text, which ends
 * what is not common to them at TCV_OWN. C99 with the GNU atomics and __thread, for Linux. */
#ifndef TCV_CALL_H
#define TCV_CALL_H
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

#define TCV_EXPORT __attribute__((visibility("default")))
#ifndef TCV_OWN
#define TCV_OWN static                     /* in two files: __attribute__((visibility("hidden"))) */
#endif

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

/* The text of this thread's last error. */
TCV_OWN const char *tcv_last_error(void);
/* Checks the arguments, in call order, and runs the program that is for this machine. `how`: see tcv_run. */
TCV_OWN int tcv_call(const tcv_function *f, const void *const *pointer, void *how);
/* The same with inputs and outputs in one array each. */
TCV_OWN int tcv_call_arrays(const tcv_function *f, const void *const *in, void *const *out, void *workspace, void *how);
#endif
