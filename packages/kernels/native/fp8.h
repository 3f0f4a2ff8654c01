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

/** The nearest codes, ties to even, saturated at ±448; NaN gives 0x7f or 0xff. */
inline vi toE4m3(vf x) {
  const vi bits = asInt(x);
  const vi magnitude = andi(bits, set1i(0x7fffffff));
  // Rounds away the 20 lowest mantissa bits, then moves the bias from 127 to 7. Infinity saturates as well.
  const vi odd = andi(shiftRight<20>(magnitude), set1i(1));
  const vi rounded = addi(addi(magnitude, set1i(0x7ffff)), odd);
  const vi normal = subi(shiftRight<20>(rounded), set1i(120 << 3));
  const vi saturated = selectGreater(normal, set1i(0x7e), set1i(0x7e), normal);
  // Below 2⁻⁶ codes count multiples of 2⁻⁹, which is what the last place of 2¹⁴ is: adding rounds to it.
  const vi steps = subi(asInt(add(asFloat(magnitude), set1(0x1p14f))), set1i(0x46800000));
  vi code = selectGreater(set1i(0x3c800000), magnitude, steps, saturated);
  code = selectGreater(magnitude, set1i(0x7f800000), set1i(0x7f), code);
  return ori(code, andi(shiftRight<24>(bits), set1i(0x80)));
}

}  // namespace BALEEN_ISA
}  // namespace baleen
