// Vectors of FP32 for the instruction set this file is compiled for. Every kernel is written once against the few
// operations of isa/ and what is built on them here; binding.gyp compiles it once an instruction set, in the namespace
// BALEEN_ISA.
//
// A tail shorter than a vector goes through loadPartial and storePartial, so that an element's result never depends on
// where it stands. What is compiled for an instruction set stands in its namespace, and nothing from the standard library's
// templates is used in kernels: of an inline function outside it the linker keeps one set's copy, and it could be one that
// the processor cannot run. test/symbols.test.ts looks for such functions in what was built.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "pool.h"

#if defined(BALEEN_AVX512BF16)
#define BALEEN_ISA isa_avx512bf16
#define BALEEN_AVX512 1
#elif defined(BALEEN_AVX512)
#define BALEEN_ISA isa_avx512
#elif defined(BALEEN_AVX2)
#define BALEEN_ISA isa_avx2
#elif defined(BALEEN_NEON)
#define BALEEN_ISA isa_neon
#else
#define BALEEN_ISA isa_baseline
#endif

#include "args.h"
// The set's own operations.
#if defined(BALEEN_AVX512)
#include "isa/avx512.h"
#elif defined(BALEEN_AVX2)
#include "isa/avx2.h"
#elif defined(BALEEN_NEON)
#include "isa/neon.h"
#else
#include "isa/baseline.h"
#endif

namespace baleen {
namespace BALEEN_ISA {

inline long minOf(long a, long b) { return a < b ? a : b; }
inline long maxOf(long a, long b) { return a > b ? a : b; }
inline long ceilDiv(long a, long b) { return (a + b - 1) / b; }

/**
 * Folds a vector in halves until one element is left: a fixed tree, and no detour through memory on x86-64, where what
 * was stored whole and is loaded in parts waits.
 */
#if defined(BALEEN_AVX512) || defined(BALEEN_AVX2)
#define BALEEN_FOLD(x, combine128)                                         \
  __m128 low = _mm256_castps256_ps128(x);                                  \
  low = combine128(low, _mm256_extractf128_ps(x, 1));                      \
  low = combine128(low, _mm_movehl_ps(low, low));                          \
  return _mm_cvtss_f32(combine128(low, _mm_movehdup_ps(low)))
#endif
/** Σ of a vector's elements, in a fixed tree. */
inline float sumOf(vf x) {
#if defined(BALEEN_AVX512)
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  BALEEN_FOLD(half, _mm_add_ps);
#elif defined(BALEEN_AVX2)
  BALEEN_FOLD(x, _mm_add_ps);
#elif defined(BALEEN_NEON)
  return vaddv_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x)));
#else
  return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}
/** The largest element. */
inline float maxOfVector(vf x) {
#if defined(BALEEN_AVX512)
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  BALEEN_FOLD(half, _mm_max_ps);
#elif defined(BALEEN_AVX2)
  BALEEN_FOLD(x, _mm_max_ps);
#else
  const float a = x[0] > x[2] ? x[0] : x[2];
  const float b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
#endif
}

/** BF16 patterns (in the low halves of integers) to FP32. */
inline vf fromBf16(vi patterns) { return asFloat(shiftLeft<16>(patterns)); }
/** FP32 to BF16 patterns, nearest even; a NaN becomes quiet. */
inline vi toBf16(vf x) {
  const vi bits = asInt(x);
  const vi odd = andi(shiftRight<16>(bits), set1i(1));
  const vi rounded = shiftRight<16>(addi(addi(bits, set1i(0x7fff)), odd));
  const vi quiet = ori(shiftRight<16>(bits), set1i(0x40));
  return selectGreater(andi(bits, set1i(0x7fffffff)), set1i(0x7f800000), quiet, rounded);
}
inline vf loadBf16(const uint16_t* p) { return fromBf16(load16(p)); }
#if defined(BALEEN_AVX512)
/** The same as 16-bit integers. The instruction for it takes subnormal numbers for zeros; they are rare. */
inline __m256i packBf16(vf x) {
#if defined(BALEEN_AVX512BF16)
  if (__builtin_expect(_mm512_fpclass_ps_mask(x, 0x20) == 0, 1))
    return (__m256i)_mm512_cvtneps_pbh(x);
#endif
  return _mm512_cvtepi32_epi16(toBf16(x));
}
inline void storeBf16(uint16_t* p, vf x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packBf16(x));
}
inline vf loadBf16Partial(const uint16_t* p, long n) {
  return fromBf16(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(firstLanes(n), p)));
}
inline void storeBf16Partial(uint16_t* p, vf x, long n) {
  _mm256_mask_storeu_epi16(p, firstLanes(n), packBf16(x));
}
/** The first n < W bytes widened, zeros behind; and the low 8 bits of the first n integers. */
inline vi load8Partial(const uint8_t* p, long n) {
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(firstLanes(n), p));
}
inline void store8Partial(uint8_t* p, vi x, long n) {
  _mm_mask_storeu_epi8(p, firstLanes(n), _mm512_cvtepi32_epi8(x));
}
#else
inline void storeBf16(uint16_t* p, vf x) { store16(p, toBf16(x)); }
inline vf loadBf16Partial(const uint16_t* p, long n) {
  uint16_t v[W] = {};
  memcpy(v, p, static_cast<size_t>(n) * 2);
  return loadBf16(v);
}
inline void storeBf16Partial(uint16_t* p, vf x, long n) {
  uint16_t v[W];
  storeBf16(v, x);
  memcpy(p, v, static_cast<size_t>(n) * 2);
}
inline vi load8Partial(const uint8_t* p, long n) {
  uint8_t v[W] = {};
  memcpy(v, p, static_cast<size_t>(n));
  return load8(v);
}
inline void store8Partial(uint8_t* p, vi x, long n) {
  uint8_t v[W];
  store8(v, x);
  memcpy(p, v, static_cast<size_t>(n));
}
#endif

/** The value of a BF16 pattern, and the nearest pattern of a value. */
inline float bf16Value(uint16_t pattern) {
  const uint32_t bits = static_cast<uint32_t>(pattern) << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
inline uint16_t bf16Pattern(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/**
 * e^x within 2 units in the last place: 2^n · e^r with r = x − n·ln 2 in two parts, e^r by its Taylor polynomial of
 * degree 7. Below −87.3 the result is 0, above 88.7 infinity; NaN stays NaN.
 */
inline vf exp(vf x) {
  const vf low = set1(-87.33654f);
  const vf high = set1(88.72283f);
  const vf clamped = min(high, max(low, x));
  const vi n = roundToInt(mul(clamped, set1(1.44269504f)));
  const vf nf = toFloat(n);
  vf r = fma(nf, set1(-0.693359375f), clamped);
  r = fma(nf, set1(2.12194440e-4f), r);
  vf p = set1(1.98412698e-4f);
  p = fma(p, r, set1(1.38888889e-3f));
  p = fma(p, r, set1(8.33333333e-3f));
  p = fma(p, r, set1(4.16666667e-2f));
  p = fma(p, r, set1(1.66666667e-1f));
  p = fma(p, r, set1(0.5f));
  p = fma(mul(p, r), r, add(r, set1(1.0f)));
  // 2^n in two steps, so that n = 128 does not overflow the exponent field.
  const vi half = subi(n, shiftRight<1>(addi(n, shiftRight<31>(n))));
  const vi rest = subi(n, half);
  const vf y = mul(mul(p, asFloat(shiftLeft<23>(addi(half, set1i(127))))),
                   asFloat(shiftLeft<23>(addi(rest, set1i(127)))));
  const vi bits = asInt(x);
  const vi magnitude = andi(bits, set1i(0x7fffffff));
  const vi negative = shiftRight<31>(bits);
  // Below the range (a negative number of greater magnitude): zero. Above: infinity. NaN: itself.
  const vi low31 = set1i(0x42aeac4f);   // 87.33654
  const vi high31 = set1i(0x42b17217);  // 88.72283
  const vi tooLow = selectGreater(magnitude, low31, negative, set1i(0));
  const vi tooHigh = selectGreater(magnitude, high31, subi(set1i(1), negative), set1i(0));
  vi result = selectGreater(tooLow, set1i(0), set1i(0), asInt(y));
  result = selectGreater(tooHigh, set1i(0), set1i(0x7f800000), result);
  return asFloat(selectGreater(magnitude, set1i(0x7f800000), bits, result));
}

}  // namespace BALEEN_ISA
}  // namespace baleen
