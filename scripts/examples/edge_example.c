/* A program that calls a compiled library: copy it, and put your own functions in.
 *
 *   tvmconv compile dw=conv2d:1x56x56x64:o64:k3x3:p1:g64:NHWC:float32:bias:relu6 \
 *       --target cortex-a72 -o layers.so
 *   cc edge_example.c layers.so -Wl,-rpath,'$ORIGIN' -o edge_example
 *
 * the first on a laptop, the second on the board, or with a cross compiler; see tvmconv/docs/edge.md.
 *
 * C99 (with POSIX) and C++11. The header beside the library states every function, its arguments and their sizes. */
#define _POSIX_C_SOURCE 200809L
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static float x[DW_X_ELEMS], w[DW_W_ELEMS], bias[DW_BIAS_ELEMS], y[DW_Y_ELEMS];

static void fill(float *array, int n) {
  for (int i = 0; i < n; ++i) array[i] = (float)(i * 7 % 11 - 5) / 4;
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int fail(void) {
  fprintf(stderr, "error: %s\n", tvmconv_last_error());
  return 1;
}

int main(void) {
  void *packed;
  if (tvmconv_abi_version() != TVMCONV_ABI) return fputs("header and library differ\n", stderr), 1;
  if (!tvmconv_variant()) return fail(); /* a CPU without the features that the kernels need */

  fill(x, DW_X_ELEMS), fill(w, DW_W_ELEMS), fill(bias, DW_BIAS_ELEMS);

  /* Once for given weights; the blob may be shared by any number of threads. */
  if (posix_memalign(&packed, 64, DW_PACKED_BYTES)) return fputs("out of memory\n", stderr), 1;
  if (dw_prepack(w, bias, packed)) return fail();

  /* As often as there are inputs. */
  double best = 1e9;
  for (int i = 0; i < 20; ++i) {
    double start = seconds(), took;
    if (dw(x, packed, y)) return fail();
    took = seconds() - start;
    if (took < best) best = took;
  }

  double sum = 0;
  for (int i = 0; i < DW_Y_ELEMS; ++i) sum += y[i];
  printf("sum %.1f, %.0f us, kernels for %s\n", sum, best * 1e6, tvmconv_variant());
  free(packed);
  return 0;
}
