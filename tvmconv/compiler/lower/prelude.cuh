/* Before the kernels that TVM writes: types and functions of theirs that CUDA has in headers, so that NVRTC
 * needs none, and a maximum that keeps NaN. */
typedef signed char int8_t;
typedef unsigned char uint8_t, uchar;
typedef short int16_t;
typedef unsigned short uint16_t, ushort;
typedef unsigned int uint32_t, uint;
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000ll)

struct __align__(2) half {
  unsigned short bits;
  half() = default;
  __device__ half(float f) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(f)); }
  __device__ operator float() const {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
  }
};
struct __align__(2) nv_bfloat16 {
  unsigned short bits;
  __device__ operator float() const { return __int_as_float((int)bits << 16); }
};

#define TCV_VECTORS(T)                                                                                \
  struct __align__(4) T##2 { T x, y; };                                                               \
  struct __align__(8) T##4 { T x, y, z, w; };                                                         \
  static __device__ __forceinline__ T##2 make_##T##2(T x, T y) { return {x, y}; }                     \
  static __device__ __forceinline__ T##4 make_##T##4(T x, T y, T z, T w) { return {x, y, z, w}; }
TCV_VECTORS(half)
TCV_VECTORS(nv_bfloat16)

/* What TVM makes a vector of eight of a constant with. */
static __device__ __forceinline__ half __float2half_rn(float f) { return f; }
static __device__ __forceinline__ nv_bfloat16 __float2bfloat16_rn(float f) {
  const uint bits = __float_as_uint(f);
  return {(ushort)(bits + 0x7fff + (bits >> 16 & 1) >> 16)};
}
static __device__ __forceinline__ uint __pack_half2(half a, half b) { return a.bits | (uint)b.bits << 16; }
static __device__ __forceinline__ uint __pack_nv_bfloat162(nv_bfloat16 a, nv_bfloat16 b) {
  return a.bits | (uint)b.bits << 16;
}

template <class T>
static __device__ __forceinline__ T tcv_max(T a, T b) {
  return a > b || a != a ? a : b;
}

/* Warp-wide products of a 16 x k by a k x 8 matrix, added to the sums that the calling thread has of them, of
 * two rows and two columns. Turing's instructions are halves and quarters of the later ones. */
#define TCV_MMA(SHAPE, TYPES, FLOATS)                                                                         \
  asm("mma.sync.aligned." SHAPE ".row.col." TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "           \
      "{%0, %1, %2, %3};"                                                                                     \
      : "+" FLOATS(c0), "+" FLOATS(c1), "+" FLOATS(c2), "+" FLOATS(c3)                                        \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
struct tcv_f16 {
  static __device__ __forceinline__ void add(float &c0, float &c1, float &c2, float &c3, const uint *a,
                                             const uint *b) {
#if __CUDA_ARCH__ >= 800
    TCV_MMA("m16n8k16", "f32.f16.f16.f32", "f");
#else
    for (int i = 0; i < 2; ++i)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
          : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3) : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
  }
};
struct tcv_bf16 { /* from 8.0 on */
  static __device__ __forceinline__ void add(float &c0, float &c1, float &c2, float &c3, const uint *a,
                                             const uint *b) {
    TCV_MMA("m16n8k16", "f32.bf16.bf16.f32", "f");
  }
};
#if __CUDA_ARCH__ >= 800
#define TCV_MMA_8(A, B) TCV_MMA("m16n8k32", "s32." A "." B ".s32", "r")
#else
#define TCV_MMA_8_ROWS(A, B, C0, C1, R)                                                                       \
  asm("mma.sync.aligned.m8n8k16.row.col.s32." A "." B ".s32 {%0, %1}, {%2}, {%3}, {%0, %1};"                  \
      : "+r"(C0), "+r"(C1) : "r"(a[2 * i + R]), "r"(b[i]))
#define TCV_MMA_8(A, B)                                                                                       \
  for (int i = 0; i < 2; ++i) {                                                                               \
    TCV_MMA_8_ROWS(A, B, c0, c1, 0);                                                                          \
    TCV_MMA_8_ROWS(A, B, c2, c3, 1);                                                                          \
  }
#endif
/* Four products of bytes added to a sum, by one thread (dp4a) and by a warp. */
#define TCV_BYTES(A, B, PTX_A, PTX_B, DP_A, DP_B)                                                             \
  static __device__ __forceinline__ int tcv_dp4a_##A##B(int a, int b, int c) {                                \
    asm("dp4a." DP_A "." DP_B " %0, %1, %2, %0;" : "+r"(c) : "r"(a), "r"(b));                                 \
    return c;                                                                                                 \
  }                                                                                                           \
  struct tcv_##A##B {                                                                                         \
    static __device__ __forceinline__ void add(int &c0, int &c1, int &c2, int &c3, const uint *a,             \
                                               const uint *b) {                                               \
      TCV_MMA_8(PTX_A, PTX_B);                                                                                \
    }                                                                                                         \
  };
TCV_BYTES(s8, s8, "s8", "s8", "s32", "s32")
TCV_BYTES(u8, s8, "u8", "s8", "u32", "s32")
TCV_BYTES(s8, u8, "s8", "u8", "s32", "u32")
/* end of the prelude */
