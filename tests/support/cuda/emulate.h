/* In place of the prelude of emitted CUDA source: what makes its kernels C++ that runs on a CPU.
 *
 * The threads of a block are fibers that take turns from barrier to barrier, in ascending or descending order:
 * a race between two barriers shows as a result that depends on the order. What a warp does as one is a barrier
 * of its 32 threads alone. Shared memory is static, and
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
  struct N##3 { T x, y, z; };                                                         \
  static inline N##2 make_##N##2(T x, T y) { return {x, y}; }                         \
  static inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; }                 \
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
static inline U bits_of(T value) {
  U bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
static inline half __float2half_rn(float f) { return f; }
static inline nv_bfloat16 __float2bfloat16_rn(float f) { /* of exact values, which is what TVM emits */
  return {(unsigned short)(bits_of<float, uint>(f) >> 16)};
}
static inline uint __pack_half2(half a, half b) {
  return bits_of<half, ushort>(a) | (uint)bits_of<half, ushort>(b) << 16;
}
static inline uint __pack_nv_bfloat162(nv_bfloat16 a, nv_bfloat16 b) { return a.bits | (uint)b.bits << 16; }

template <class T, class U>
static inline auto max(T a, U b) -> decltype(a + b) { return a > b ? a : b; }
template <class T, class U>
static inline auto min(T a, U b) -> decltype(a + b) { return a < b ? a : b; }
template <class T>
static inline T tcv_max(T a, T b) { return a > b || a != a ? a : b; }
template <class A, class B>
static inline int dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += (int)(A)(a >> 8 * i) * (int)(B)(b >> 8 * i);
  return c;
}
typedef signed char emu_s8;
typedef unsigned char emu_u8;
#define tcv_dp4a_s8s8 dp4a<emu_s8, emu_s8>
#define tcv_dp4a_u8s8 dp4a<emu_u8, emu_s8>
#define tcv_dp4a_s8u8 dp4a<emu_s8, emu_u8>

/* ---- blocks and threads ---- */

extern "C" int emu_descending;
__attribute__((weak)) int emu_descending = 0;
static __attribute__((section("emu_shared"), used)) char emu_some_shared[16];
extern char __start_emu_shared[] __attribute__((visibility("hidden")));
extern char __stop_emu_shared[] __attribute__((visibility("hidden")));

namespace emu {
enum { STACK = 1 << 16, WARP = 32 };
enum state : char { READY, AT_WARP, AT_BLOCK, DONE };
static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::vector<char> stacks;
static std::vector<state> states;
static void (*body)(void **);
static void **params;
static unsigned current;

static void enter() {
  body(params);
  states[current] = DONE;
}
static void place(unsigned t, const unsigned *threads) {
  current = t;
  threadIdx = {t % threads[0], t / threads[0] % threads[1], t / (threads[0] * threads[1])};
}
/* Until all threads of a warp are at a barrier of the block, or done: as far ahead of other warps as can be. */
static state run_warp(unsigned first, unsigned count, const unsigned *threads) {
  for (;;) {
    for (unsigned i = 0; i < count; ++i) {
      unsigned t = first + (emu_descending ? count - 1 - i : i);
      place(t, threads), swapcontext(&scheduler, &fibers[t]);
    }
    for (unsigned i = 1; i < count; ++i)
      if (states[first + i] != states[first]) __builtin_trap(); /* a barrier that not all threads reach */
    if (states[first] != AT_WARP) return states[first];
  }
}
static void run_block(unsigned count, const unsigned *threads, bool synchronised) {
  std::memset(__start_emu_shared, 0xFF, __stop_emu_shared - __start_emu_shared);
  if (!synchronised) {
    for (unsigned i = 0; i < count; ++i)
      place(emu_descending ? count - 1 - i : i, threads), body(params);
    return;
  }
  fibers.resize(count), stacks.resize((size_t)count * STACK), states.assign(count, READY);
  for (unsigned t = 0; t < count; ++t) {
    getcontext(&fibers[t]);
    fibers[t].uc_stack.ss_sp = &stacks[(size_t)t * STACK], fibers[t].uc_stack.ss_size = STACK;
    fibers[t].uc_link = &scheduler;
    makecontext(&fibers[t], enter, 0);
  }
  unsigned warps = (count + WARP - 1) / WARP;
  for (state reached = READY; reached != DONE;)
    for (unsigned i = 0; i < warps; ++i) {
      unsigned first = (emu_descending ? warps - 1 - i : i) * WARP;
      state now = run_warp(first, std::min<unsigned>(WARP, count - first), threads);
      if (i && now != reached) __builtin_trap();
      reached = now;
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
static void wait(state at) {
  unsigned self = current;
  emu_dim3 place = threadIdx;
  states[self] = at;
  swapcontext(&fibers[self], &scheduler);
  current = self, threadIdx = place;
}
}  // namespace emu

static inline void __syncthreads() { emu::wait(emu::AT_BLOCK); }

/* ---- tensor cores ----
 * mma.m16n8k16 (16 bits) and m16n8k32 (8 bits) of the PTX manual: where its section on matrix fragments says
 * that an element is, in which thread and register, is what at() below looks up. */
namespace emu {
static uint fragments[WARP][6]; /* of the warp at work: four registers of a, two of b */

template <class T>
static T at(unsigned lane, unsigned first, unsigned i) {
  T element;
  memcpy(&element, (const char *)&fragments[lane][first] + i * sizeof(T), sizeof element);
  return element;
}
template <class T> /* a: row groupID for i = 0.. and 2 registers on, else groupID + 8; columns by quads */
static T a_at(unsigned row, unsigned k) {
  unsigned n = 4 / sizeof(T), i = k % n + (row >= 8) * n + (k >= 4 * n) * 2 * n;
  return at<T>(row % 8 * 4 + k % (4 * n) / n, 0, i);
}
template <class T>
static T b_at(unsigned k, unsigned column) {
  unsigned n = 4 / sizeof(T);
  return at<T>(column * 4 + k % (4 * n) / n, 4, k % n + (k >= 4 * n) * n);
}
template <class A, class B, class Sum>
static void mma(Sum &c0, Sum &c1, Sum &c2, Sum &c3, const uint *a, const uint *b) {
  unsigned lane = current % WARP, group = lane / 4, quad = lane % 4;
  if (current / WARP * WARP + WARP > fibers.size()) __builtin_trap(); /* a warp that is not whole */
  memcpy(fragments[lane], a, 16), memcpy(fragments[lane] + 4, b, 8);
  wait(AT_WARP);
  Sum *c[4] = {&c0, &c1, &c2, &c3};
  for (unsigned i = 0; i < 4; ++i)
    for (unsigned k = 0; k < 32 / sizeof(A); ++k)
      *c[i] += (Sum)a_at<A>(group + i / 2 * 8, k) * (Sum)b_at<B>(k, quad * 2 + i % 2);
  wait(AT_WARP);
}
}  // namespace emu
#define EMU_MMA(NAME, A, B, SUM)                                                               \
  struct NAME {                                                                                \
    static void add(SUM &c0, SUM &c1, SUM &c2, SUM &c3, const uint *a, const uint *b) {        \
      emu::mma<A, B>(c0, c1, c2, c3, a, b);                                                    \
    }                                                                                          \
  };
EMU_MMA(tcv_f16, half, half, float)
EMU_MMA(tcv_bf16, nv_bfloat16, nv_bfloat16, float)
EMU_MMA(tcv_s8s8, emu_s8, emu_s8, int)
EMU_MMA(tcv_u8s8, emu_u8, emu_s8, int)
EMU_MMA(tcv_s8u8, emu_s8, emu_u8, int)
