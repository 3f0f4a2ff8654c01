// Moving lanes of a vector: what rotary embedding needs beyond simd.h, for every vector set.
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
#elif defined(BALEEN_AVX2)
inline vf swapPairs(vf x) { return _mm256_permute_ps(x, 0xb1); }
inline vf loadTwice(const float* p) {
  const __m256i lanes = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), lanes);
}
#else
inline vf swapPairs(vf x) { return vf{x[1], x[0], x[3], x[2]}; }
inline vf loadTwice(const float* p) { return vf{p[0], p[0], p[1], p[1]}; }
#endif

}  // namespace BALEEN_ISA
}  // namespace baleen
