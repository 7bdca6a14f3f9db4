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

template <class T>
static __device__ __forceinline__ T tcv_max(T a, T b) {
  return a > b || a != a ? a : b;
}
/* end of the prelude */
