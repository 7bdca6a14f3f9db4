/* Products of tiles by tensor cores. c[m][n] += sums of a[m][k] b[n][k] over the length of one instruction:
 * M tiles of 16 rows by N of 8 columns, whose sums lie as the instruction has them. Of tiles, halves of 8 rows
 * (H) and neighbours (P), the other numbers say how many elements lie between them in c, a and b. Places are those
 * of the thread's own first sum, row and column, and of k = 0. Threads are 4 by 8 by warps. */
#ifndef TCV_PRODUCTS
#define TCV_PRODUCTS
template <class Kind, int M, int N, int CM, int CH, int CN, int CP, int AM, int AH, int BN, int BP, class Sum,
          class Factor>
static __device__ __forceinline__ void tcv_mma(Sum *c, int c_at, const Factor *a, int a_at, const Factor *b,
                                                   int b_at) {
  const int quad = threadIdx.x, row = threadIdx.y, word = 4 / sizeof(Factor);
  uint rows[M][4], columns[N][2];
  c += c_at;
  a += a_at + quad * word;
  b += b_at + (row - 2 * quad) * BP + quad * word; /* a thread loads the column of its row's number */
  for (int m = 0; m < M; ++m)
    for (int i = 0; i < 4; ++i) rows[m][i] = *(const uint *)(a + m * AM + (i & 1) * AH + (i >> 1) * 4 * word);
  for (int n = 0; n < N; ++n)
    for (int i = 0; i < 2; ++i) columns[n][i] = *(const uint *)(b + n * BN + i * 4 * word);
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) {
      Sum *own = c + m * CM + n * CN;
      Kind::add(own[0], own[CP], own[CH], own[CH + CP], rows[m], columns[n]);
    }
}
#endif
