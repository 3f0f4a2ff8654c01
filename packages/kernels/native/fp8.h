// E4M3 codes (src/codec.ts) in vectors of integers, to and from FP32, bit for bit as the codec has them.
#pragma once
#include "simd.h"

namespace baleen {
namespace BALEEN_ISA {

/** The values of codes 0 … 255. */
inline vf fromE4m3(vi codes) {
  const vi magnitude = andi(codes, set1i(0x7f));
  // Exponent and mantissa move into FP32's fields; the bias grows from 7 to 127.
  const vi moved = shiftLeft<20>(magnitude);
  const vi normal = addi(moved, set1i(120 << 23));
  // Codes below 8 count multiples of 2⁻⁹: 2⁻⁶ · (1 + m / 8) − 2⁻⁶.
  const vi small = asInt(sub(asFloat(ori(moved, set1i(121 << 23))), set1(0x1p-6f)));
  vi bits = selectGreater(set1i(8), magnitude, small, normal);
  bits = selectGreater(magnitude, set1i(0x7e), set1i(0x7fc00000), bits);
  return asFloat(ori(bits, shiftLeft<24>(andi(codes, set1i(0x80)))));
}

#if defined(BALEEN_AVX512)
/** The values of 2 · W codes: read as FP16 they are 2⁻⁸ of themselves, subnormal ones included, and only NaN is not. */
inline void loadE4m3Twice(const uint8_t* codes, vf& first, vf& second) {
  const __m512i wide =
      _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
  // The sign moves one place further than the other bits.
  const __m512i apart = _mm512_add_epi16(wide, _mm512_and_si512(wide, _mm512_set1_epi16(0x80)));
  const __m512i halves = _mm512_slli_epi16(apart, 7);
  const __m512i nan = _mm512_set1_epi16(0x3f80);
  const __mmask32 isNan = _mm512_cmpeq_epi16_mask(_mm512_and_si512(halves, nan), nan);
  const __m512i all = _mm512_mask_mov_epi16(halves, isNan, _mm512_set1_epi16(0x7e00));
  const vf up = set1(256.0f);
  first = mul(_mm512_cvtph_ps(_mm512_castsi512_si256(all)), up);
  second = mul(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(all, 1)), up);
}
#else
inline void loadE4m3Twice(const uint8_t* codes, vf& first, vf& second) {
  first = fromE4m3(load8(codes));
  second = fromE4m3(load8(codes + W));
}
#endif

/** The lower of two, as integers without a sign; the higher of two that are not negative. */
#if defined(BALEEN_AVX512)
inline vi lowerUnsigned(vi a, vi b) { return _mm512_min_epu32(a, b); }
inline vi higher(vi a, vi b) { return _mm512_max_epi32(a, b); }
inline bool anyAbove(vi a, vi limit) { return _mm512_cmpgt_epi32_mask(a, limit) != 0; }
#elif defined(BALEEN_AVX2)
inline vi lowerUnsigned(vi a, vi b) { return _mm256_min_epu32(a, b); }
inline vi higher(vi a, vi b) { return _mm256_max_epi32(a, b); }
inline bool anyAbove(vi a, vi limit) {
  return _mm256_movemask_epi8(_mm256_cmpgt_epi32(a, limit)) != 0;
}
#else
inline vi lowerUnsigned(vi a, vi b) {
  const vu x = reinterpret_cast<vu>(a);
  const vu y = reinterpret_cast<vu>(b);
  return reinterpret_cast<vi>(x < y ? x : y);
}
inline vi higher(vi a, vi b) { return a > b ? a : b; }
inline bool anyAbove(vi a, vi limit) {
  const vi above = a > limit;
  return (above[0] | above[1] | above[2] | above[3]) != 0;
}
#endif

/** |x| as bits: in the order of the numbers, infinity and then NaN above all. */
inline vi magnitudeOf(vf x) { return andi(asInt(x), set1i(0x7fffffff)); }
constexpr int largestFinite = 0x7f7fffff;

/**
 * The nearest codes, ties to even, of numbers that round to at most ±448, as quotients by a block's own scale do; a NaN
 * gives 0x7f or 0xff.
 *
 * Codes of one exponent e are 2ᵉ⁻³ apart, below 2⁻⁶ all are 2⁻⁹ apart. A number added to 2ᵉ⁺²⁰, whose last place that is,
 * is rounded to them: the sum's bits count them up from 2ᵉ⁺²⁰, and 8 codes an exponent come on top.
 */
inline vi toE4m3(vf x) {
  const vi bits = asInt(x);
  const vi magnitude = magnitudeOf(x);
  const vi field = andi(bits, set1i(0x7f800000));
  const vi exponent = higher(field, set1i(121 << 23));
  const vi base = addi(exponent, set1i(20 << 23));
  const vi steps = subi(asInt(add(asFloat(magnitude), asFloat(base))), base);
  const vi code = addi(steps, subi(shiftRight<20>(exponent), set1i(121 << 3)));
  // A NaN's exponent carries `base` beyond the largest; what comes out is larger than any code.
  return ori(lowerUnsigned(code, set1i(0x7f)), andi(shiftRight<24>(bits), set1i(0x80)));
}

/** A block's scale, and its reciprocal to nearest. */
struct Divisor {
  vf scale, inverse;
};

/**
 * toE4m3(x / scale) for finite x no larger than 448 scales of at least 1e-4 / 448. Only the low 8 bits are the code's.
 *
 * Where multiply-adds round once, x · inverse corrected by its remainder is the quotient to nearest, except where
 * remainders are subnormal, and there the code is 0 all the same. So the code is that of a true division, which takes
 * several times as long.
 */
inline vi quotientToE4m3(vf x, const Divisor& by) {
#if defined(BALEEN_AVX512) || defined(BALEEN_AVX2)
  const vf size = abs(x);
  const vf rough = mul(size, by.inverse);
#if defined(BALEEN_AVX512)
  const vf remainder = _mm512_fnmadd_ps(rough, by.scale, size);
#else
  const vf remainder = _mm256_fnmadd_ps(rough, by.scale, size);
#endif
  const vf quotient = fma(remainder, by.inverse, rough);
#else
  const vf quotient = div(abs(x), by.scale);
#endif
  // As in toE4m3. What `base` has on top of its power of two comes off again, modulo 256 together with 121 exponents.
  const vi exponent = andi(higher(asInt(quotient), set1i(121 << 23)), set1i(0x7f800000));
  const vi base = addi(exponent, set1i((20 << 23) + (1 << 22) + 56));
  const vi sum = asInt(add(quotient, asFloat(base)));
  const vi code = addi(subi(sum, exponent), shiftRight<20>(exponent));
  const vi sign = shiftRight<24>(asInt(x));
#if defined(BALEEN_AVX512)
  return _mm512_ternarylogic_epi32(code, sign, set1i(0x80), 0xd8);
#else
  return ori(andi(code, set1i(0x7f)), andi(sign, set1i(0x80)));
#endif
}

}  // namespace BALEEN_ISA
}  // namespace baleen
