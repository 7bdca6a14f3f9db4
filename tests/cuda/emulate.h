/* In place of the prelude of emitted CUDA source: what makes its kernels C++ that runs on a CPU.
 *
 * The threads of a block are fibers that take turns from barrier to barrier, in ascending or descending order:
 * a race between two barriers shows as a result that depends on the order. Shared memory is static, and
 * poisoned before each block. Compiled with UBSan's traps for bounds and alignment. */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <ucontext.h>
#include <vector>

#define __global__ static
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("emu_shared")))
#define CUDART_INF_F INFINITY
#define CUDART_INF (double)INFINITY
typedef unsigned int uint;
typedef unsigned char uchar;
typedef unsigned short ushort;
struct emu_dim3 { unsigned x, y, z; };
static thread_local emu_dim3 blockIdx, threadIdx;

#define EMU_VECTORS(T, N, A)                                                          \
  struct __align__(A * 2) N##2 { T x, y; };                                           \
  struct __align__(A * 4 > 16 ? 16 : A * 4) N##4 { T x, y, z, w; };                   \
  static inline N##2 make_##N##2(T x, T y) { return {x, y}; }                         \
  static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTORS(float, float, 4)
EMU_VECTORS(double, double, 8)
EMU_VECTORS(int, int, 4)
EMU_VECTORS(unsigned, uint, 4)
EMU_VECTORS(short, short, 2)
EMU_VECTORS(unsigned short, ushort, 2)
EMU_VECTORS(signed char, char, 1)
EMU_VECTORS(unsigned char, uchar, 1)
EMU_VECTORS(long long, longlong, 8)

/* half: the compiler's own type for storage, arithmetic in float as the emitted code casts. */
struct half {
  _Float16 value;
  half() = default;
  half(float f) : value((_Float16)f) {}
  operator float() const { return (float)value; }
};
struct nv_bfloat16 {
  unsigned short bits;
  operator float() const {
    unsigned wide = (unsigned)bits << 16;
    float f;
    memcpy(&f, &wide, 4);
    return f;
  }
};
EMU_VECTORS(half, half, 2)
EMU_VECTORS(nv_bfloat16, nv_bfloat16, 2)

template <class T, class U>
static inline auto max(T a, U b) -> decltype(a + b) { return a > b ? a : b; }
template <class T, class U>
static inline auto min(T a, U b) -> decltype(a + b) { return a < b ? a : b; }
template <class T>
static inline T tcv_max(T a, T b) { return a > b || a != a ? a : b; }
static inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += (int)(signed char)(a >> 8 * i) * (int)(signed char)(b >> 8 * i);
  return c;
}

/* ---- blocks and threads ---- */

extern "C" int emu_descending;
__attribute__((weak)) int emu_descending = 0;
static __attribute__((section("emu_shared"), used)) char emu_some_shared[16];
extern char __start_emu_shared[] __attribute__((visibility("hidden")));
extern char __stop_emu_shared[] __attribute__((visibility("hidden")));

namespace emu {
enum { STACK = 1 << 16 };
static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::vector<char> stacks, done;
static void (*body)(void **);
static void **params;
static unsigned current;
static unsigned long barriers;

static void enter() {
  body(params);
  done[current] = 1;
}
static void place(unsigned t, const unsigned *threads) {
  current = t;
  threadIdx = {t % threads[0], t / threads[0] % threads[1], t / (threads[0] * threads[1])};
}
static void run_block(unsigned count, const unsigned *threads, bool synchronised) {
  std::memset(__start_emu_shared, 0xFF, __stop_emu_shared - __start_emu_shared);
  auto nth = [&](unsigned i) { return emu_descending ? count - 1 - i : i; };
  if (!synchronised) {
    for (unsigned i = 0; i < count; ++i) place(nth(i), threads), body(params);
    return;
  }
  fibers.resize(count), stacks.resize((size_t)count * STACK), done.assign(count, 0);
  for (unsigned t = 0; t < count; ++t) {
    getcontext(&fibers[t]);
    fibers[t].uc_stack.ss_sp = &stacks[(size_t)t * STACK], fibers[t].uc_stack.ss_size = STACK;
    fibers[t].uc_link = &scheduler;
    makecontext(&fibers[t], enter, 0);
  }
  for (unsigned left = count; left;) {
    unsigned ended = 0;
    for (unsigned i = 0; i < count; ++i) {
      place(nth(i), threads);
      swapcontext(&scheduler, &fibers[nth(i)]);
      ended += done[nth(i)];
    }
    if (ended && ended != count) __builtin_trap();    /* a barrier that not all threads reach */
    left -= ended;
  }
}
static void launch(void (*kernel)(void **), bool synchronised, void **given, const unsigned *grid,
                   const unsigned *threads) {
  body = kernel, params = given;
  for (unsigned z = 0; z < grid[2]; ++z)
    for (unsigned y = 0; y < grid[1]; ++y)
      for (unsigned x = 0; x < grid[0]; ++x)
        blockIdx = {x, y, z}, run_block(threads[0] * threads[1] * threads[2], threads, synchronised);
}
}  // namespace emu

static inline void __syncthreads() {
  unsigned self = emu::current;
  emu_dim3 place = threadIdx;
  swapcontext(&emu::fibers[self], &emu::scheduler);
  emu::current = self, threadIdx = place;
}
