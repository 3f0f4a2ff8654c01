// The vectors of AVX-512 (F, BW, VL, DQ), sixteen FP32; isa/baseline.h says what each operation means.
#pragma once
#include <immintrin.h>

namespace baleen {
namespace BALEEN_ISA {

constexpr int W = 16;
constexpr int registers = 32;
constexpr bool fused = true;
using vf = __m512;
using vi = __m512i;

inline vf load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, vf x) { _mm512_storeu_ps(p, x); }
inline void storePast(float* p, vf x) { _mm512_stream_ps(p, x); }
inline void drain() { _mm_sfence(); }
inline vf set1(float x) { return _mm512_set1_ps(x); }
inline vf add(vf a, vf b) { return _mm512_add_ps(a, b); }
inline vf sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
inline vf mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
inline vf div(vf a, vf b) { return _mm512_div_ps(a, b); }
inline vf sqrt(vf a) { return _mm512_sqrt_ps(a); }
inline vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
inline vf fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
inline vf max(vf a, vf b) { return _mm512_max_ps(a, b); }
inline vf min(vf a, vf b) { return _mm512_min_ps(a, b); }
inline vf abs(vf a) { return _mm512_abs_ps(a); }
inline __mmask16 firstLanes(long n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline vf loadPartial(const float* p, long n) { return _mm512_maskz_loadu_ps(firstLanes(n), p); }
inline void storePartial(float* p, vf x, long n) { _mm512_mask_storeu_ps(p, firstLanes(n), x); }
inline vi asInt(vf x) { return _mm512_castps_si512(x); }
inline vf asFloat(vi x) { return _mm512_castsi512_ps(x); }
inline vi set1i(int x) { return _mm512_set1_epi32(x); }
inline vi addi(vi a, vi b) { return _mm512_add_epi32(a, b); }
inline vi subi(vi a, vi b) { return _mm512_sub_epi32(a, b); }
inline vi andi(vi a, vi b) { return _mm512_and_si512(a, b); }
inline vi ori(vi a, vi b) { return _mm512_or_si512(a, b); }
template <int N>
inline vi shiftLeft(vi a) { return _mm512_slli_epi32(a, N); }
template <int N>
inline vi shiftRight(vi a) { return _mm512_srli_epi32(a, N); }
inline vi roundToInt(vf x) { return _mm512_cvtps_epi32(x); }
inline vi truncateToInt(vf x) { return _mm512_cvttps_epi32(x); }
inline vf toFloat(vi x) { return _mm512_cvtepi32_ps(x); }
inline vi selectGreater(vi x, vi y, vi a, vi b) {
  return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(x, y), b, a);
}
inline vi higherBytes(vi a, vi b) { return _mm512_max_epu8(a, b); }
inline vi load16(const uint16_t* p) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store16(uint16_t* p, vi x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
}
inline vi load8(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store8(uint8_t* p, vi x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
}

}  // namespace BALEEN_ISA
}  // namespace baleen
