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

#if defined(BALEEN_AVX512BF16)
/** The upper and lower halves of the BF16 patterns of codes 0 … 127. */
struct Bf16OfE4m3 {
  alignas(64) uint8_t upper[128];
  alignas(64) uint8_t lower[128];
};
inline constexpr Bf16OfE4m3 bf16OfE4m3 = [] {
  // Codes below 8 are multiples of 2⁻⁹, subnormal as E4M3 and normal as BF16.
  constexpr uint16_t small[8] = {0, 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60};
  Bf16OfE4m3 table = {};
  for (int code = 0; code < 128; code += 1) {
    const int pattern = code == 127 ? 0x7fc0 : code < 8 ? small[code] : (code << 4) + (120 << 7);
    table.upper[code] = static_cast<uint8_t>(pattern >> 8);
    table.lower[code] = static_cast<uint8_t>(pattern);
  }
  return table;
}();

/** Interleaves the halves of the BF16 patterns of 64 codes, inside lanes of 16 bytes: codes 0 … 7 and 8 … 15 of each. */
inline void toBf16Patterns(__m512i codes, __m512i& first, __m512i& second) {
  const auto lookup = [&](const uint8_t* table) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), codes, _mm512_load_si512(table + 64));
  };
  // upper | (code & 0x80)
  const __m512i upper = _mm512_ternarylogic_epi32(lookup(bf16OfE4m3.upper), codes, _mm512_set1_epi8(-128), 0xf8);
  const __m512i lower = lookup(bf16OfE4m3.lower);
  first = _mm512_unpacklo_epi8(lower, upper);
  second = _mm512_unpackhi_epi8(lower, upper);
}

/** The values of 4 · W codes: their BF16 patterns looked up by halves, 64 at a time. */
inline void loadE4m3Four(const uint8_t* codes, vf* values) {
  // Every quarter of a register gets four codes of each vector, as unpacking takes them from there.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i x = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(codes));
  __m512i even;
  __m512i odd;
  toBf16Patterns(x, even, odd);
  const __m512i zero = _mm512_setzero_si512();
  values[0] = asFloat(_mm512_unpacklo_epi16(zero, even));
  values[1] = asFloat(_mm512_unpackhi_epi16(zero, even));
  values[2] = asFloat(_mm512_unpacklo_epi16(zero, odd));
  values[3] = asFloat(_mm512_unpackhi_epi16(zero, odd));
}
#elif defined(BALEEN_AVX512)
/** The values of 4 · W codes: read as FP16 they are 2⁻⁸ of themselves, subnormal ones included, and only NaN is not. */
inline void loadE4m3Four(const uint8_t* codes, vf* values) {
  for (int i = 0; i < 4; i += 2, codes += 2 * W) {
    const __m512i wide =
        _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    // The sign moves one place further than the other bits.
    const __m512i apart = _mm512_add_epi16(wide, _mm512_and_si512(wide, _mm512_set1_epi16(0x80)));
    const __m512i halves = _mm512_slli_epi16(apart, 7);
    const __m512i nan = _mm512_set1_epi16(0x3f80);
    const __mmask32 isNan = _mm512_cmpeq_epi16_mask(_mm512_and_si512(halves, nan), nan);
    const __m512i all = _mm512_mask_mov_epi16(halves, isNan, _mm512_set1_epi16(0x7e00));
    const vf up = set1(256.0f);
    values[i] = mul(_mm512_cvtph_ps(_mm512_castsi512_si256(all)), up);
    values[i + 1] = mul(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(all, 1)), up);
  }
}
#elif defined(BALEEN_NEON)
inline void loadE4m3Four(const uint8_t* codes, vf* values) {
  for (int i = 0; i < 4; i += 2, codes += 2 * W) {
    // Shifted with its sign repeated, a code leaves a second one where the exponent's highest bit is.
    const int16x8_t wide = vshll_n_s8(vreinterpret_s8_u8(vld1_u8(codes)), 7);
    const uint16x8_t halves = vandq_u16(vreinterpretq_u16_s16(wide), vdupq_n_u16(0xbf80));
    const uint16x8_t nan = vdupq_n_u16(0x3f80);
    const uint16x8_t isNan = vceqq_u16(vandq_u16(halves, nan), nan);
    const float16x8_t all = vreinterpretq_f16_u16(vbslq_u16(isNan, vdupq_n_u16(0x7e00), halves));
    const vf up = set1(256.0f);
    values[i] = mul(vcvt_f32_f16(vget_low_f16(all)), up);
    values[i + 1] = mul(vcvt_high_f32_f16(all), up);
  }
}
#else
inline void loadE4m3Four(const uint8_t* codes, vf* values) {
  for (int i = 0; i < 4; i += 1) values[i] = fromE4m3(load8(codes + i * W));
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
 * x / scale to nearest, for finite x and a scale of at least 1e-4 / 448; without AVX-512 its magnitude only.
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
 * The quotient, of at most 448, rounded to a code: added to 1.5 · 2ᵉ⁺²⁰, as in toE4m3, for its exponent e of at least −6.
 * The sum's lowest byte counts codes from a fixed number on, 8 to 16 of them, and its exponent counts eights.
 */
inline vi countedCodes(vf quotient) {
  // 20 counts more make up for what exponents are biased by, modulo 128.
  const vf base = set1(0x1.8p20f + 2.5f);
#if defined(BALEEN_AVX512)
  const vf clamped = _mm512_range_ps(quotient, set1(0x1p-6f), 3);  // the larger magnitude, the quotient's sign
  const vi power = andi(asInt(clamped), set1i(static_cast<int>(0xff800000)));
#else
  const vi power = andi(asInt(max(quotient, set1(0x1p-6f))), set1i(0x7f800000));
#endif
  return asInt(fma(asFloat(power), base, quotient));
}

#if defined(BALEEN_AVX512)
/**
 * Codes four bits further up in the low halves, with their signs in bit 15 and anything in between: 16 times the sum's
 * lower half and once its upper half.
 */
inline vi quotientCodes(vf x, const Divisor& by) {
  return _mm512_madd_epi16(countedCodes(quotientOf(x, by)), set1i((1 << 16) | 16));
}
#else
/** Codes in the low 7 bits, with anything above them. */
inline vi quotientMagnitude(vf x, const Divisor& by) {
  const vi counted = countedCodes(quotientOf(x, by));
  return addi(counted, shiftRight<20>(counted));
}
#endif

/** The code of x / scale, |x| being finite and no larger than 448 scales; only the low 8 bits are the code's. */
inline vi quotientToE4m3(vf x, const Divisor& by) {
#if defined(BALEEN_AVX512)
  const vi code = quotientCodes(x, by);
  return _mm512_ternarylogic_epi32(shiftRight<4>(code), shiftRight<8>(code), set1i(0x7f), 0xe4);
#else
  return ori(andi(quotientMagnitude(x, by), set1i(0x7f)), andi(shiftRight<24>(asInt(x)), set1i(0x80)));
#endif
}

/** Codes of four vectors, each by its own divisor. */
inline void storeE4m3Four(uint8_t* codes, const vf* x, const Divisor* by) {
#if defined(BALEEN_AVX512)
  // Two vectors' codes in one, by quarters.
  const auto halves = [&](int v) {
    const __m512i both = _mm512_packs_epi32(quotientCodes(x[v], by[v]), quotientCodes(x[v + 1], by[v + 1]));
    return _mm512_ternarylogic_epi32(_mm512_srli_epi16(both, 4), _mm512_srli_epi16(both, 8), _mm512_set1_epi16(0x7f),
                                     0xe4);
  };
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(codes, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(halves(0), halves(2))));
#elif defined(BALEEN_NEON)
  // Even words of two registers are the lower halves of their integers, odd ones the upper; so with bytes.
  const auto words = [](vi v) { return vreinterpretq_u16_s32(v); };
  const auto bytes = [](uint16x8_t v) { return vreinterpretq_u8_u16(v); };
  const vi sizes[4] = {quotientMagnitude(x[0], by[0]), quotientMagnitude(x[1], by[1]),
                       quotientMagnitude(x[2], by[2]), quotientMagnitude(x[3], by[3])};
  const uint8x16_t magnitudes = vuzp1q_u8(bytes(vuzp1q_u16(words(sizes[0]), words(sizes[1]))),
                                          bytes(vuzp1q_u16(words(sizes[2]), words(sizes[3]))));
  const uint8x16_t signs = vuzp2q_u8(bytes(vuzp2q_u16(words(asInt(x[0])), words(asInt(x[1])))),
                                     bytes(vuzp2q_u16(words(asInt(x[2])), words(asInt(x[3])))));
  vst1q_u8(codes, vbslq_u8(vdupq_n_u8(0x80), signs, magnitudes));
#else
  for (int v = 0; v < 4; v += 1) store8(codes + v * W, quotientToE4m3(x[v], by[v]));
#endif
}

}  // namespace BALEEN_ISA
}  // namespace baleen
