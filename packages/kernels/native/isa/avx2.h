// The vectors of AVX2 with FMA, eight FP32; isa/baseline.h says what each operation means.
#pragma once
#include <immintrin.h>

namespace baleen {
namespace BALEEN_ISA {

constexpr int W = 8;
constexpr int registers = 16;
constexpr bool fused = true;
using vf = __m256;
using vi = __m256i;

inline vf load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, vf x) { _mm256_storeu_ps(p, x); }
inline void storePast(float* p, vf x) { _mm256_stream_ps(p, x); }
inline void drain() { _mm_sfence(); }
inline vf set1(float x) { return _mm256_set1_ps(x); }
inline vf add(vf a, vf b) { return _mm256_add_ps(a, b); }
inline vf sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
inline vf mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
inline vf div(vf a, vf b) { return _mm256_div_ps(a, b); }
inline vf sqrt(vf a) { return _mm256_sqrt_ps(a); }
inline vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
inline vf fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
inline vf max(vf a, vf b) { return _mm256_max_ps(a, b); }
inline vf min(vf a, vf b) { return _mm256_min_ps(a, b); }
inline vf abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline __m256i firstLanes(long n) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
}
inline vf loadPartial(const float* p, long n) { return _mm256_maskload_ps(p, firstLanes(n)); }
inline void storePartial(float* p, vf x, long n) { _mm256_maskstore_ps(p, firstLanes(n), x); }
inline vi asInt(vf x) { return _mm256_castps_si256(x); }
inline vf asFloat(vi x) { return _mm256_castsi256_ps(x); }
inline vi set1i(int x) { return _mm256_set1_epi32(x); }
inline vi addi(vi a, vi b) { return _mm256_add_epi32(a, b); }
inline vi subi(vi a, vi b) { return _mm256_sub_epi32(a, b); }
inline vi andi(vi a, vi b) { return _mm256_and_si256(a, b); }
inline vi ori(vi a, vi b) { return _mm256_or_si256(a, b); }
template <int N>
inline vi shiftLeft(vi a) { return _mm256_slli_epi32(a, N); }
template <int N>
inline vi shiftRight(vi a) { return _mm256_srli_epi32(a, N); }
inline vi roundToInt(vf x) { return _mm256_cvtps_epi32(x); }
inline vi truncateToInt(vf x) { return _mm256_cvttps_epi32(x); }
inline vf toFloat(vi x) { return _mm256_cvtepi32_ps(x); }
inline vi selectGreater(vi x, vi y, vi a, vi b) {
  return _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi32(x, y));
}
inline vi higherBytes(vi a, vi b) { return _mm256_max_epu8(a, b); }
inline vi load16(const uint16_t* p) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store16(uint16_t* p, vi x) {
  const __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
inline vi load8(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline void store8(uint8_t* p, vi x) {
  const __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xff));
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm_setzero_si128());
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
