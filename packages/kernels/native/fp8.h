// The 8-bit formats, E4M3 and E5M2 (formats.h), at speed: many codes at once to FP32 and to BF16, quotients by a block's
// scale to codes; bit for bit as the codec (src/codec.ts) has them. What runs for every 64 codes is inlined whatever the
// compiler thinks of the size that two formats come to.
#pragma once
#include "formats.h"

namespace baleen {
namespace BALEEN_ISA {

#if defined(BALEEN_AVX512BF16)
/** The upper and lower halves of the BF16 patterns of codes 0 … 127. */
struct Bf16Patterns {
  alignas(64) uint8_t upper[128];
  alignas(64) uint8_t lower[128];
};
template <class F>
inline constexpr Bf16Patterns bf16Patterns = [] {
  Bf16Patterns table = {};
  for (int code = 0; code < 128; code += 1) {
    int pattern = (code << (7 - F::mantissa)) + ((127 - F::bias) << 7);
    if (code < 1 << F::mantissa) {
      // Subnormal, and normal as BF16: the leading one goes to where it is not stored.
      int exponent = F::least;
      int significand = code << (7 - F::mantissa);
      for (; code > 0 && significand < 0x80; exponent -= 1) significand <<= 1;
      pattern = code == 0 ? 0 : (exponent << 7) + (significand & 0x7f);
    }
    if (code > F::largestCode) pattern = F::ieee && code == F::largestCode + 1 ? 0x7f80 : 0x7fc0;
    table.upper[code] = static_cast<uint8_t>(pattern >> 8);
    table.lower[code] = static_cast<uint8_t>(pattern);
  }
  return table;
}();

/** Interleaves the halves of the BF16 patterns of 64 codes, inside lanes of 16 bytes: codes 0 … 7 and 8 … 15 of each. */
inline void toBf16Patterns(__m512i codes, const Bf16Patterns& table, __m512i& first, __m512i& second) {
  const auto lookup = [&](const uint8_t* half) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(half), codes, _mm512_load_si512(half + 64));
  };
  // upper | (code & 0x80)
  const __m512i upper = _mm512_ternarylogic_epi32(lookup(table.upper), codes, _mm512_set1_epi8(-128), 0xf8);
  const __m512i lower = lookup(table.lower);
  first = _mm512_unpacklo_epi8(lower, upper);
  second = _mm512_unpackhi_epi8(lower, upper);
}

/** The values of 4 · W codes: their BF16 patterns looked up by halves, 64 at a time. */
template <class F>
[[gnu::always_inline]] inline void loadFour(const uint8_t* codes, vf* values) {
  // Every quarter of a register gets four codes of each vector, as unpacking takes them from there.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i x = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(codes));
  __m512i even;
  __m512i odd;
  toBf16Patterns(x, bf16Patterns<F>, even, odd);
  const __m512i zero = _mm512_setzero_si512();
  values[0] = asFloat(_mm512_unpacklo_epi16(zero, even));
  values[1] = asFloat(_mm512_unpackhi_epi16(zero, even));
  values[2] = asFloat(_mm512_unpacklo_epi16(zero, odd));
  values[3] = asFloat(_mm512_unpackhi_epi16(zero, odd));
}
#elif defined(BALEEN_AVX512)
/**
 * The values of 4 · W codes by way of FP16. E5M2 is its upper byte; E4M3 codes moved to its fields are 2⁻⁸ of themselves,
 * subnormal ones included, and only NaN is not.
 */
template <class F>
[[gnu::always_inline]] inline void loadFour(const uint8_t* codes, vf* values) {
  for (int i = 0; i < 4; i += 2, codes += 2 * W) {
    const __m512i wide =
        _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    __m512i halves;
    if constexpr (F::ieee) {
      halves = _mm512_slli_epi16(wide, 8);
    } else {
      // The sign moves one place further than the other bits.
      const __m512i apart = _mm512_add_epi16(wide, _mm512_and_si512(wide, _mm512_set1_epi16(0x80)));
      const __m512i moved = _mm512_slli_epi16(apart, 7);
      const __m512i nan = _mm512_set1_epi16(0x3f80);
      const __mmask32 isNan = _mm512_cmpeq_epi16_mask(_mm512_and_si512(moved, nan), nan);
      halves = _mm512_mask_mov_epi16(moved, isNan, _mm512_set1_epi16(0x7e00));
    }
    const vf up = set1(F::ieee ? 1.0f : 256.0f);
    values[i] = mul(_mm512_cvtph_ps(_mm512_castsi512_si256(halves)), up);
    values[i + 1] = mul(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1)), up);
  }
}
#elif defined(BALEEN_NEON)
/** As AVX-512 has it. */
template <class F>
[[gnu::always_inline]] inline void loadFour(const uint8_t* codes, vf* values) {
  for (int i = 0; i < 4; i += 2, codes += 2 * W) {
    uint16x8_t halves;
    if constexpr (F::ieee) {
      halves = vshll_n_u8(vld1_u8(codes), 8);
    } else {
      // Shifted with its sign repeated, a code leaves a second one where the exponent's highest bit is.
      const int16x8_t wide = vshll_n_s8(vreinterpret_s8_u8(vld1_u8(codes)), 7);
      const uint16x8_t moved = vandq_u16(vreinterpretq_u16_s16(wide), vdupq_n_u16(0xbf80));
      const uint16x8_t nan = vdupq_n_u16(0x3f80);
      halves = vbslq_u16(vceqq_u16(vandq_u16(moved, nan), nan), vdupq_n_u16(0x7e00), moved);
    }
    const float16x8_t all = vreinterpretq_f16_u16(halves);
    const vf up = set1(F::ieee ? 1.0f : 256.0f);
    values[i] = mul(vcvt_f32_f16(vget_low_f16(all)), up);
    values[i + 1] = mul(vcvt_high_f32_f16(all), up);
  }
}
#else
template <class F>
[[gnu::always_inline]] inline void loadFour(const uint8_t* codes, vf* values) {
  for (int i = 0; i < 4; i += 1) values[i] = fromCodes<F>(load8(codes + i * W));
}
#endif

/** A block's scale, and its reciprocal to nearest. */
struct Divisor {
  vf scale, inverse;
};

/**
 * x / scale to nearest, for finite x and a scale of at least 1e-4 / 57344; without AVX-512 its magnitude only.
 *
 * Where multiply-adds round once, x · inverse corrected by its remainder is the quotient to nearest, except where
 * remainders are subnormal, and there a block's code is 0 all the same. That takes a fraction of a true division's time. With
 * these signs of the remainder −0 stays −0.
 */
inline vf quotientOf(vf x, const Divisor& by) {
#if defined(BALEEN_AVX512)
  const vf rough = mul(x, by.inverse);
  return _mm512_fnmadd_ps(_mm512_fmsub_ps(rough, by.scale, x), by.inverse, rough);
#else
  if constexpr (fused) {
    const vf size = abs(x);
    const vf rough = mul(size, by.inverse);
    return fma(fnma(rough, by.scale, size), by.inverse, rough);
  }
  return div(abs(x), by.scale);
#endif
}

/**
 * The quotient, of at most the largest value, rounded to a code: added to 1.5 · 2ᵉ⁺²³⁻ᵐ, as in toMagnitudes, for its
 * exponent e of at least the smallest normal value's. The sum's lowest byte counts codes from a fixed number on, 2ᵐ to
 * 2ᵐ⁺¹ of them, and its exponent counts 2ᵐ each.
 */
template <class F>
inline vi countedCodes(vf quotient) {
  constexpr int steps = 1 << F::mantissa;
  // So many counts more make up for what exponents are biased by and for the 0.5 of 1.5, modulo 128.
  constexpr int more = ((F::bias + F::mantissa - 151) * steps - steps / 2) & 127;
  constexpr float base = 1.5f * static_cast<float>(1 << (23 - F::mantissa)) + static_cast<float>(more) / steps;
  const vf least = asFloat(set1i(F::least << 23));
#if defined(BALEEN_AVX512)
  const vf clamped = _mm512_range_ps(quotient, least, 3);  // the larger magnitude, the quotient's sign
  const vi power = andi(asInt(clamped), set1i(static_cast<int>(0xff800000)));
#else
  const vi power = andi(asInt(max(quotient, least)), set1i(0x7f800000));
#endif
  return asInt(fma(asFloat(power), set1(base), quotient));
}

#if defined(BALEEN_AVX512)
/**
 * Codes 7 − m bits further up in the low halves, with their signs in bit 15 and anything in between: 2⁷⁻ᵐ times the sum's
 * lower half and once its upper half.
 */
template <class F>
inline vi quotientCodes(vf x, const Divisor& by) {
  return _mm512_madd_epi16(countedCodes<F>(quotientOf(x, by)), set1i((1 << 16) | (1 << (7 - F::mantissa))));
}
#else
/** Codes in the low 7 bits, with anything above them. */
template <class F>
inline vi quotientMagnitude(vf x, const Divisor& by) {
  const vi counted = countedCodes<F>(quotientOf(x, by));
  return addi(counted, shiftRight<23 - F::mantissa>(counted));
}
#endif

/** The code of x / scale, |x| being finite and no larger than the largest value times the scale; only the low 8 bits are the code's. */
template <class F>
inline vi quotientToCode(vf x, const Divisor& by) {
#if defined(BALEEN_AVX512)
  const vi code = quotientCodes<F>(x, by);
  return _mm512_ternarylogic_epi32(shiftRight<7 - F::mantissa>(code), shiftRight<8>(code), set1i(0x7f), 0xe4);
#else
  return ori(andi(quotientMagnitude<F>(x, by), set1i(0x7f)), signsOf<F>(x));
#endif
}

/** Codes of four vectors, each by its own divisor. */
template <class F>
[[gnu::always_inline]] inline void storeFour(uint8_t* codes, const vf* x, const Divisor* by) {
#if defined(BALEEN_AVX512)
  // Two vectors' codes in one, by quarters.
  const auto halves = [&](int v) {
    const __m512i both = _mm512_packs_epi32(quotientCodes<F>(x[v], by[v]), quotientCodes<F>(x[v + 1], by[v + 1]));
    return _mm512_ternarylogic_epi32(_mm512_srli_epi16(both, 7 - F::mantissa), _mm512_srli_epi16(both, 8),
                                     _mm512_set1_epi16(0x7f), 0xe4);
  };
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(codes, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(halves(0), halves(2))));
#elif defined(BALEEN_NEON)
  // Even words of two registers are the lower halves of their integers, odd ones the upper; so with bytes.
  const auto words = [](vi v) { return vreinterpretq_u16_s32(v); };
  const auto bytes = [](uint16x8_t v) { return vreinterpretq_u8_u16(v); };
  const vi sizes[4] = {quotientMagnitude<F>(x[0], by[0]), quotientMagnitude<F>(x[1], by[1]),
                       quotientMagnitude<F>(x[2], by[2]), quotientMagnitude<F>(x[3], by[3])};
  const uint8x16_t magnitudes = vuzp1q_u8(bytes(vuzp1q_u16(words(sizes[0]), words(sizes[1]))),
                                          bytes(vuzp1q_u16(words(sizes[2]), words(sizes[3]))));
  const uint8x16_t signs = vuzp2q_u8(bytes(vuzp2q_u16(words(asInt(x[0])), words(asInt(x[1])))),
                                     bytes(vuzp2q_u16(words(asInt(x[2])), words(asInt(x[3])))));
  vst1q_u8(codes, vbslq_u8(vdupq_n_u8(0x80), signs, magnitudes));
#else
  for (int v = 0; v < 4; v += 1) store8(codes + v * W, quotientToCode<F>(x[v], by[v]));
#endif
}

}  // namespace BALEEN_ISA
}  // namespace baleen
