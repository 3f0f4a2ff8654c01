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

/** The lower of two, as integers without a sign. */
inline vi lowerUnsigned(vi a, vi b) {
#if defined(BALEEN_AVX512)
  return _mm512_min_epu32(a, b);
#elif defined(BALEEN_AVX2)
  return _mm256_min_epu32(a, b);
#else
  const vu x = reinterpret_cast<vu>(a);
  const vu y = reinterpret_cast<vu>(b);
  return reinterpret_cast<vi>(x < y ? x : y);
#endif
}

/**
 * The nearest codes, ties to even, of numbers that round to at most ±448, as quotients by a block's own scale do; a NaN
 * gives 0x7f or 0xff.
 *
 * Codes of one exponent e are 2ᵉ⁻³ apart, below 2⁻⁶ all are 2⁻⁹ apart. A number added to 2ᵉ⁺²⁰, whose last place that is,
 * is rounded to them: the sum's bits count them up from 2ᵉ⁺²⁰, and 8 codes an exponent come on top.
 */
inline vi toE4m3(vf x) {
  const vi bits = asInt(x);
  const vi magnitude = andi(bits, set1i(0x7fffffff));
  const vi field = andi(bits, set1i(0x7f800000));
  const vi exponent = selectGreater(set1i(121 << 23), field, set1i(121 << 23), field);
  const vi base = addi(exponent, set1i(20 << 23));
  const vi steps = subi(asInt(add(asFloat(magnitude), asFloat(base))), base);
  const vi code = addi(steps, subi(shiftRight<20>(exponent), set1i(121 << 3)));
  // A NaN's exponent carries `base` beyond the largest; what comes out is larger than any code.
  return ori(lowerUnsigned(code, set1i(0x7f)), andi(shiftRight<24>(bits), set1i(0x80)));
}

}  // namespace BALEEN_ISA
}  // namespace baleen
