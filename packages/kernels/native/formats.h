// The small formats (src/formats.ts) as vectors of integers take them: codes to FP32 and back, bit for bit as the codec
// (src/codec.ts) has them. fp8.h has the fast ways of the 8-bit ones.
#pragma once
#include "simd.h"

namespace baleen {
namespace BALEEN_ISA {

/** A format of a sign, exponent and `Mantissa` bits. `Ieee`: its largest exponent is infinity's and NaN's; else one code is NaN. */
template <int Bits, int Mantissa, int Bias, bool Ieee, int Largest>
struct Format {
  static constexpr int bits = Bits;
  static constexpr int mantissa = Mantissa;
  static constexpr int bias = Bias;
  static constexpr bool ieee = Ieee;
  /** The largest value. */
  static constexpr float largest = static_cast<float>(Largest);
  /** All bits below the sign. */
  static constexpr int ones = (1 << (Bits - 1)) - 1;
  static constexpr int largestCode = Ieee ? ones - (1 << Mantissa) : ones - 1;
  static constexpr int nanCode = Ieee ? ones - (1 << (Mantissa - 1)) + 1 : ones;
  /** FP32's exponent field of the smallest normal value. */
  static constexpr int least = 128 - Bias;
};
using E4m3 = Format<8, 3, 7, false, 448>;
using E5m2 = Format<8, 2, 15, true, 57344>;
using E5m6 = Format<12, 6, 15, true, 65024>;

/** Calls `body` with the format of 8-bit codes. */
template <class Body>
inline auto withFormat(DType dtype, Body&& body) {
  return dtype == DType::e5m2 ? body(E5m2{}) : body(E4m3{});
}

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
#elif defined(BALEEN_NEON)
inline vi lowerUnsigned(vi a, vi b) {
  return vreinterpretq_s32_u32(vminq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)));
}
inline vi higher(vi a, vi b) { return vmaxq_s32(a, b); }
inline bool anyAbove(vi a, vi limit) { return vmaxvq_u32(vcgtq_s32(a, limit)) != 0; }
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

/** The values of codes. */
template <class F>
inline vf fromCodes(vi codes) {
  constexpr int up = 23 - F::mantissa;
  const vi magnitude = andi(codes, set1i(F::ones));
  // Exponent and mantissa move into FP32's fields; the bias grows to 127.
  const vi moved = shiftLeft<up>(magnitude);
  const vi normal = addi(moved, set1i((127 - F::bias) << 23));
  // Codes below the smallest normal value's are what a mantissa adds to that value.
  const vi smallest = set1i(F::least << 23);
  const vi small = asInt(sub(asFloat(ori(moved, smallest)), asFloat(smallest)));
  vi bits = selectGreater(set1i(1 << F::mantissa), magnitude, small, normal);
  // The largest exponent, of infinity and NaN, becomes FP32's largest.
  const vi special = F::ieee ? addi(moved, set1i((255 << 23) - ((F::largestCode + 1) << up))) : set1i(0x7fc00000);
  bits = selectGreater(magnitude, set1i(F::largestCode), special, bits);
  return asFloat(ori(bits, shiftLeft<32 - F::bits>(andi(codes, set1i(1 << (F::bits - 1))))));
}

/**
 * The nearest codes, ties to even, of x ≥ 0, saturated; a NaN gives NaN.
 *
 * Codes of one exponent e are 2ᵉ⁻ᵐ apart, m being the mantissa's bits, and below the smallest normal value all are as far
 * apart as above it. A number added to 2ᵉ⁺²³⁻ᵐ, whose last place that is, is rounded to them: the sum's bits count them up
 * from there, and 2ᵐ codes an exponent come on top. Far beyond the largest value the sum's exponent leaves its field, and
 * what comes out is larger than any code.
 */
template <class F>
inline vi toMagnitudes(vf x) {
  constexpr int down = 23 - F::mantissa;
  const vi magnitude = asInt(x);
  const vi exponent = higher(andi(magnitude, set1i(0x7f800000)), set1i(F::least << 23));
  const vi base = addi(exponent, set1i(down << 23));
  const vi steps = subi(asInt(add(x, asFloat(base))), base);
  const vi code = addi(steps, subi(shiftRight<down>(exponent), set1i(F::least << F::mantissa)));
  const vi saturated = lowerUnsigned(code, set1i(F::largestCode));
  return selectGreater(magnitude, set1i(0x7f800000), set1i(F::nanCode), saturated);
}

/** The signs of numbers, where codes have them. */
template <class F>
inline vi signsOf(vf x) {
  return andi(shiftRight<32 - F::bits>(asInt(x)), set1i(1 << (F::bits - 1)));
}

/** The nearest codes of any numbers. */
template <class F>
inline vi toCodes(vf x) {
  return ori(toMagnitudes<F>(abs(x)), signsOf<F>(x));
}

}  // namespace BALEEN_ISA
}  // namespace baleen
