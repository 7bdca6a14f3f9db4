/* AMX's tiles as functions, for CPUs without: what a program does wrong ends it, with a line that says so. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) \
  if (!(what)) fprintf(stderr, "AMX: %s, register %d\n", #what, t), abort()

typedef struct { int rows, bytes; uint8_t of[16][64]; } tile;
static __thread struct { int set_up; tile tiles[8]; } amx;
long amx_settings, amx_products;                      /* counted, of all threads */

void emulated_ldtilecfg(const uint8_t *from) {
  int t = -1;
  CHECK(from[0] == 1 && from[1] == 0);
  memset(&amx, 0, sizeof amx);
  amx.set_up = 1;
  for (t = 0; t < 8; ++t) {
    tile *one = &amx.tiles[t];
    one->bytes = from[16 + 2 * t] | from[17 + 2 * t] << 8, one->rows = from[48 + t];
    CHECK(one->rows <= 16 && one->bytes <= 64 && !one->rows == !one->bytes);
  }
  __atomic_fetch_add(&amx_settings, 1, __ATOMIC_RELAXED);
}

void emulated_tilerelease(void) { amx.set_up = 0; }

static tile *usable(int t) {
  CHECK(amx.set_up && t >= 0 && t < 8);
  CHECK(amx.tiles[t].rows);
  return &amx.tiles[t];
}

void emulated_tilezero(int8_t t) { memset(usable(t)->of, 0, sizeof amx.tiles[t].of); }

void emulated_tileloadd64(int8_t t, const uint8_t *from, int64_t apart) {
  tile *to = usable(t);
  for (int m = 0; m < to->rows; ++m) memcpy(to->of[m], from + m * apart, (size_t)to->bytes);
}

void emulated_tilestored64(int8_t t, uint8_t *to, int64_t apart) {
  const tile *from = usable(t);
  for (int m = 0; m < from->rows; ++m) memcpy(to + m * apart, from->of[m], (size_t)from->bytes);
}

static int signed_or_not(uint8_t byte, int is_signed) { return is_signed ? (int8_t)byte : byte; }

static void multiply(int t, int a, int b, int signed_a, int signed_b) {
  tile *sums = usable(t), *left = usable(a), *right = usable(b);
  CHECK(t != a && t != b && a != b);                  /* another one, or the CPU refuses the instruction */
  CHECK(sums->rows == left->rows && sums->bytes == right->bytes && left->bytes == 4 * right->rows);
  for (int m = 0; m < sums->rows; ++m)
    for (int n = 0; n < sums->bytes / 4; ++n) {
      int32_t sum;
      memcpy(&sum, &sums->of[m][4 * n], 4);
      for (int k = 0; k < left->bytes; ++k)
        sum += signed_or_not(left->of[m][k], signed_a) *
               signed_or_not(right->of[k / 4][4 * n + k % 4], signed_b);
      memcpy(&sums->of[m][4 * n], &sum, 4);
    }
  __atomic_fetch_add(&amx_products, 1, __ATOMIC_RELAXED);
}

void emulated_tdpbssd(int8_t t, int8_t a, int8_t b) { multiply(t, a, b, 1, 1); }

void emulated_tdpbusd(int8_t t, int8_t a, int8_t b) { multiply(t, a, b, 0, 1); }

void emulated_tdpbsud(int8_t t, int8_t a, int8_t b) { multiply(t, a, b, 1, 0); }
