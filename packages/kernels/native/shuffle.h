// Moving and comparing lanes of a vector: what rotary embedding and top-k need beyond simd.h, for every vector set.
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
/** Bit i is set where aᵢ = bᵢ; a NaN equals nothing. */
inline unsigned equalLanes(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
#elif defined(BALEEN_AVX2)
inline vf swapPairs(vf x) { return _mm256_permute_ps(x, 0xb1); }
inline vf loadTwice(const float* p) {
  const __m256i lanes = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), lanes);
}
inline unsigned equalLanes(vf a, vf b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
}
#else
inline vf swapPairs(vf x) { return vf{x[1], x[0], x[3], x[2]}; }
inline vf loadTwice(const float* p) { return vf{p[0], p[0], p[1], p[1]}; }
inline unsigned equalLanes(vf a, vf b) {
  const vi same = a == b;
  return (same[0] & 1u) | (same[1] & 2u) | (same[2] & 4u) | (same[3] & 8u);
}
#endif

/** Number of the lowest set bit; bits must not be zero. */
inline int lowestBit(unsigned bits) { return __builtin_ctz(bits); }

}  // namespace BALEEN_ISA
}  // namespace baleen
