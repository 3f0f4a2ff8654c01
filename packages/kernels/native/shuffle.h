// Moving lanes of a vector: what rotary embedding and packing need beyond simd.h.
#pragma once
#include "simd.h"

namespace baleen {
namespace BALEEN_ISA {

#if defined(BALEEN_AVX512)
/** (x₀, x₁, x₂, x₃, …) → (x₁, x₀, x₃, x₂, …). */
inline vf swapPairs(vf x) { return _mm512_permute_ps(x, 0xb1); }
/** W / 2 numbers, each twice: (p₀, p₀, p₁, p₁, …). */
inline vf loadTwice(const float* p) {
  const __m512i lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
/** Words along a side of the square that is transposed at once. */
constexpr long side = 16;
/** Transposes a square of words: out[j · outStride + i] = in[i · inStride + j] for i and j below `side`. */
inline void transposeSquare(const float* in, long inStride, float* out, long outStride) {
  __m512 r[16];
  __m512 t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 1) r[i] = _mm512_loadu_ps(in + i * inStride);
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 1) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i += 1) {
    r[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i += 1) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i += 1) {
    _mm512_storeu_ps(out + i * outStride, _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88));
    _mm512_storeu_ps(out + (4 + i) * outStride, _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88));
    _mm512_storeu_ps(out + (8 + i) * outStride, _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd));
    _mm512_storeu_ps(out + (12 + i) * outStride, _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd));
  }
}
#elif defined(BALEEN_AVX2)
inline vf swapPairs(vf x) { return _mm256_permute_ps(x, 0xb1); }
inline vf loadTwice(const float* p) {
  const __m256i lanes = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), lanes);
}
constexpr long side = 8;
inline void transposeSquare(const float* in, long inStride, float* out, long outStride) {
  __m256 r[8];
  __m256 t[8];
  // Halves of rows four apart side by side: what crosses the middle of a vector comes from memory.
#pragma GCC unroll 4
  for (int i = 0; i < 4; i += 1) {
    const float* row = in + i * inStride;
    const float* other = row + 4 * inStride;
    r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row)), _mm_loadu_ps(other), 1);
    r[4 + i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row + 4)), _mm_loadu_ps(other + 4), 1);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    _mm256_storeu_ps(out + i * outStride, _mm256_shuffle_ps(t[i], t[i + 2], 0x44));
    _mm256_storeu_ps(out + (i + 1) * outStride, _mm256_shuffle_ps(t[i], t[i + 2], 0xee));
    _mm256_storeu_ps(out + (i + 2) * outStride, _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44));
    _mm256_storeu_ps(out + (i + 3) * outStride, _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee));
  }
}
#elif defined(BALEEN_NEON)
inline vf swapPairs(vf x) { return vrev64q_f32(x); }
inline vf loadTwice(const float* p) {
  const float32x2_t two = vld1_f32(p);
  return vcombine_f32(vzip1_f32(two, two), vzip2_f32(two, two));
}
constexpr long side = 4;
inline void transposeSquare(const float* in, long inStride, float* out, long outStride) {
  // Two rows' even elements side by side, and their odd ones; then pairs of those.
  const float32x4x2_t upper = vtrnq_f32(load(in), load(in + inStride));
  const float32x4x2_t lower = vtrnq_f32(load(in + 2 * inStride), load(in + 3 * inStride));
  for (int j = 0; j < 2; j += 1) {
    store(out + j * outStride, vcombine_f32(vget_low_f32(upper.val[j]), vget_low_f32(lower.val[j])));
    store(out + (2 + j) * outStride, vcombine_f32(vget_high_f32(upper.val[j]), vget_high_f32(lower.val[j])));
  }
}
#else
inline vf swapPairs(vf x) { return vf{x[1], x[0], x[3], x[2]}; }
inline vf loadTwice(const float* p) { return vf{p[0], p[0], p[1], p[1]}; }
constexpr long side = 4;
inline void transposeSquare(const float* in, long inStride, float* out, long outStride) {
  const vf a = load(in);
  const vf b = load(in + inStride);
  const vf c = load(in + 2 * inStride);
  const vf d = load(in + 3 * inStride);
  store(out, vf{a[0], b[0], c[0], d[0]});
  store(out + outStride, vf{a[1], b[1], c[1], d[1]});
  store(out + 2 * outStride, vf{a[2], b[2], c[2], d[2]});
  store(out + 3 * outStride, vf{a[3], b[3], c[3], d[3]});
}
#endif

/** N words, repeated through a vector. */
template <int N>
inline vf repeat(const float* p) {
  if constexpr (N == 1) {
    return set1(*p);
  } else if constexpr (N == W) {
    return load(p);
  } else {
#if defined(BALEEN_AVX512)
    if constexpr (N == 2) return _mm512_castsi512_ps(_mm512_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)p)));
    if constexpr (N == 4) return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
    if constexpr (N == 8) return _mm512_broadcast_f32x8(_mm256_loadu_ps(p));
#elif defined(BALEEN_AVX2)
    if constexpr (N == 2) return _mm256_castsi256_ps(_mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)p)));
    if constexpr (N == 4) return _mm256_broadcast_ps((const __m128*)p);
#elif defined(BALEEN_NEON)
    return vcombine_f32(vld1_f32(p), vld1_f32(p));
#else
    return vf{p[0], p[1], p[0], p[1]};
#endif
  }
}

/** (a₀ + a₁, a₂ + a₃, …, b₀ + b₁, b₂ + b₃, …). */
inline vf addNeighbours(vf a, vf b) {
#if defined(BALEEN_AVX512)
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
  return add(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
#elif defined(BALEEN_AVX2)
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_hadd_ps(a, b)), 0xd8));
#elif defined(BALEEN_NEON)
  return vpaddq_f32(a, b);
#else
  return vf{a[0] + a[1], a[2] + a[3], b[0] + b[1], b[2] + b[3]};
#endif
}

/** out[j · rows + i] = in[i · stride + j] for i < rows, j < width, words of four bytes; both are multiples of `side`. */
inline void transposeWords(const float* in, long stride, long width, float* out, long rows) {
  for (long j = 0; j < width; j += side)
    for (long i = 0; i < rows; i += side)
      transposeSquare(in + i * stride + j, stride, out + j * rows + i, rows);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
