/* Part of every exported library, after the headers: error text and codes.
 *
 * After it come call.c, what the machine takes (a CPU: support.c, arm.c, threads.c, pool.c, trace.c, weights.c, cpu.c;
 * a GPU: cuda.c) and the tables of its variants. Everything is static except what TVM finds by name, and what the
 * generated entry points need, TCV_OWN. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TCV_TEXT 384                       /* of an error, one per thread */

enum { TCV_OK, TCV_ERR_NULL, TCV_ERR_ALIGN, TCV_ERR_OVERLAP, TCV_ERR_CPU, TCV_ERR_KERNEL };
enum { TCV_ERR_STEPS = 7, TCV_ERR_WEIGHTS };          /* after what a GPU's have */

static __thread char tcv_error[TCV_TEXT];

__attribute__((format(printf, 2, 3))) static int tcv_fail(int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(tcv_error, sizeof tcv_error, format, args);
  va_end(args);
  return code;
}

TCV_OWN const char *tcv_last_error(void) { return tcv_error; }
