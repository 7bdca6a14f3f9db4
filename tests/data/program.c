/* Calls net_main, a function of two inputs and two outputs, on what the file `case` holds: x, r, and z and y as they
 * have to be; from several threads as well, with workspaces of their own or the library's. */
#include "net.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static float x[NET_MAIN_X_ELEMS], r[NET_MAIN_R_ELEMS], z[NET_MAIN_Z_ELEMS], y[NET_MAIN_Y_ELEMS];
static const void *const in[] = {x, r};
enum { THREADS = 4, CALLS = 20 };

static int fails(int line, int code, int want, const char *words) {
  if (code == want && (!words || strstr(net_last_error(), words))) return 0;
  printf("line %d: code %d, expected %d: %s\n", line, code, want, net_last_error());
  return 1;
}
#define expect(want, words, call) wrong += fails(__LINE__, call, want, words)

static int unlike(const float *found, const float *want, int n) {
  for (int i = 0; i < n; ++i)
    if (!(fabsf(found[i] - want[i]) < 1e-4f)) return printf("%d: %g, expected %g\n", i, found[i], want[i]), 1;
  return 0;
}

static void *call(void *own) {
  static _Alignas(64) char workspace[THREADS][NET_MAIN_WORKSPACE_BYTES];
  float my_z[NET_MAIN_Z_ELEMS], my_y[NET_MAIN_Y_ELEMS];
  void *out[] = {my_z, my_y};
  long wrong = 0, i = (long)own;
  for (int n = 0; n < CALLS; ++n) {
    memset(my_z, 0, sizeof my_z), memset(my_y, 0, sizeof my_y);
    expect(TVMCONV_OK, NULL, net_main(in, out, i % 2 ? workspace[i] : NULL));
    wrong += unlike(my_z, z, NET_MAIN_Z_ELEMS) + unlike(my_y, y, NET_MAIN_Y_ELEMS);
  }
  return (void *)wrong;
}

int main(void) {
  static _Alignas(64) char workspace[NET_MAIN_WORKSPACE_BYTES + 64];
  static float to_z[NET_MAIN_Z_ELEMS], to_y[NET_MAIN_Y_ELEMS];
  void *out[] = {to_z, to_y}, *found;
  pthread_t thread[THREADS];
  long wrong = 0;
  FILE *file = fopen("case", "rb");
  if (!file || fread(x, sizeof x, 1, file) + fread(r, sizeof r, 1, file) != 2) return 2;
  if (fread(z, sizeof z, 1, file) + fread(y, sizeof y, 1, file) != 2) return 3;
  if (net_abi_version() != NET_ABI) return 4;
  expect(TVMCONV_OK, NULL, net_main(in, out, workspace));
  wrong += unlike(to_z, z, NET_MAIN_Z_ELEMS) + unlike(to_y, y, NET_MAIN_Y_ELEMS);
  for (long i = 0; i < THREADS; ++i) wrong += pthread_create(&thread[i], NULL, call, (void *)i) != 0;
  for (int i = 0; i < THREADS; ++i) pthread_join(thread[i], &found), wrong += found != NULL;
  expect(TVMCONV_ERR_NULL, "net_main: in is NULL", net_main(NULL, out, workspace));
  expect(TVMCONV_ERR_NULL, "net_main: out is NULL", net_main(in, NULL, NULL));
  expect(TVMCONV_ERR_NULL, "net_main: r is NULL", net_main((const void *const[]){x, NULL}, out, NULL));
  expect(TVMCONV_ERR_NULL, "net_main: z is NULL", net_main(in, (void *[]){NULL, to_y}, NULL));
  expect(TVMCONV_ERR_ALIGN, "net_main: workspace is at", net_main(in, out, workspace + 32));
  expect(TVMCONV_ERR_ALIGN, "net_main: y is at", net_main(in, (void *[]){to_z, (char *)to_y + 2}, NULL));
  expect(TVMCONV_ERR_OVERLAP, "net_main: y overlaps z", net_main(in, (void *[]){to_z, to_z + 9}, NULL));
  expect(TVMCONV_ERR_OVERLAP, "net_main: z overlaps x", net_main(in, (void *[]){x, to_y}, NULL));
  expect(TVMCONV_ERR_OVERLAP, "net_main: workspace overlaps y", net_main(in, (void *[]){to_z, workspace}, workspace));
  memset(to_z, 0, sizeof to_z), memset(to_y, 0, sizeof to_y);
  for (int step = 0; step < NET_MAIN_STEPS; ++step) {   /* one by one, in the caller's memory */
    int64_t ns = -1;
    expect(TVMCONV_OK, NULL, net_main_steps(in, out, workspace, step, step + 1, &ns));
    wrong += ns < 0;
  }
  wrong += unlike(to_z, z, NET_MAIN_Z_ELEMS) + unlike(to_y, y, NET_MAIN_Y_ELEMS);
  expect(TVMCONV_ERR_STEPS, "steps 1 to 99, expected some of 0 to", net_main_steps(in, out, workspace, 1, 99, NULL));
  expect(TVMCONV_ERR_STEPS, "steps 2 to 1", net_main_steps(in, out, workspace, 2, 1, NULL));
  expect(TVMCONV_ERR_NULL, "net_main: workspace is NULL", net_main_steps(in, out, NULL, 0, 1, NULL));
  if (!wrong) printf("%s: right\n", net_variant());
  return wrong != 0;
}
