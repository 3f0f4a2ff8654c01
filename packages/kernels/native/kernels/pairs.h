// Pairs of BF16 as the dot unit takes them, made from BF16 or FP8 values: the even k in the upper half of each word (see
// product.h). FP8 codes go through tables of their BF16 patterns, 64 codes a look-up.
#pragma once
#include "../fp8.h"
#include "product.h"

#if defined(BALEEN_AVX512BF16)

namespace baleen {
namespace BALEEN_ISA {

/** Which byte of 64 goes where. */
struct Order {
  alignas(64) uint8_t byte[64];
};
/**
 * Interleaving bytes works inside lanes of 16: half h of lane L of the first result is made from byte 16L + h, of the
 * second from byte 16L + 8 + h. An order says which codes stand there; `first` and `second` name the code of a half.
 */
template <class First, class Second>
constexpr Order makeOrder(First first, Second second) {
  Order order{};
  for (int lane = 0; lane < 4; lane += 1)
    for (int half = 0; half < 8; half += 1) {
      order.byte[16 * lane + half] = static_cast<uint8_t>(first(8 * lane + half));
      order.byte[16 * lane + 8 + half] = static_cast<uint8_t>(second(8 * lane + half));
    }
  return order;
}
/** Neighbours along k in one row: halves 2j and 2j + 1 of a word change places. */
inline constexpr Order alongRow =
    makeOrder([](int half) { return half ^ 1; }, [](int half) { return 32 + (half ^ 1); });
/** Columns of two rows, the odd k in bytes 0 … 31 and the even in 32 … 63; the second result begins at column S. */
template <int S>
inline constexpr Order acrossRows = makeOrder([](int half) { return (half & 1) * 32 + (half >> 1); },
                                              [](int half) { return (half & 1) * 32 + (half >> 1) + S; });

/** The patterns of a source's codes. */
inline const Bf16Patterns& patternsOf(const Source& s) {
  return s.dtype == DType::e5m2 ? bf16Patterns<E5m2> : bf16Patterns<E4m3>;
}

/** 64 codes, put in order, as two vectors of BF16 patterns. */
inline void decodePairs(__m512i codes, const Source& s, const Order& order, __m512i& first, __m512i& second) {
  toBf16Patterns(_mm512_permutexvar_epi8(_mm512_load_si512(order.byte), codes), patternsOf(s), first, second);
}

/** One row of a block: `length` ≤ `depth` values of k as pairs, zeros up to a multiple of 64 values. */
inline void pairsAlongRow(float* out, const Source& s, long row, long k0, long length) {
  const long at = row * s.stride + k0;
  if (s.dtype == DType::bf16) {
    for (long kk = 0; kk < length; kk += 32) {
      const long n = length - kk;
      const __mmask32 mask = n >= 32 ? ~0u : (1u << n) - 1u;
      const __m512i x = _mm512_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(s.data) + at + kk);
      _mm512_storeu_si512(out + kk / 2, _mm512_rol_epi32(x, 16));
    }
    return;
  }
  for (long kk = 0; kk < length; kk += 64) {
    const long n = length - kk;
    const __mmask64 mask = n >= 64 ? ~0ull : (1ull << n) - 1ull;
    __m512i first;
    __m512i second;
    const __m512i codes = _mm512_maskz_loadu_epi8(mask, static_cast<const uint8_t*>(s.data) + at + kk);
    decodePairs(codes, s, alongRow, first, second);
    _mm512_storeu_si512(out + kk / 2, first);
    _mm512_storeu_si512(out + kk / 2 + 16, second);
  }
}

/** Columns [at, at + n) of two neighbouring rows as words, S for the first result and the rest for the second. */
template <int S>
inline void pairsAcrossRows(const Source& s, long at, bool odd, long n, __m512i& first, __m512i& second) {
  const __mmask32 mask = n >= 32 ? ~0u : (1u << n) - 1u;
  if (s.dtype == DType::bf16) {
    const uint16_t* p = static_cast<const uint16_t*>(s.data) + at;
    const __m512i upper = _mm512_maskz_loadu_epi16(mask, p);
    const __m512i lower = odd ? _mm512_maskz_loadu_epi16(mask, p + s.stride) : _mm512_setzero_si512();
    // Halves (column, odd row), (column, even row): column c of the odd row is index c, of the even 32 + c.
    const __m512i step = _mm512_set1_epi32(0x00010001);
    __m512i index = _mm512_setr_epi32(0x200000, 0x210001, 0x220002, 0x230003, 0x240004, 0x250005, 0x260006, 0x270007,
                                      0x280008, 0x290009, 0x2a000a, 0x2b000b, 0x2c000c, 0x2d000d, 0x2e000e, 0x2f000f);
    first = _mm512_permutex2var_epi16(lower, index, upper);
    index = _mm512_add_epi32(index, _mm512_mullo_epi32(step, _mm512_set1_epi32(S)));
    second = _mm512_permutex2var_epi16(lower, index, upper);
    return;
  }
  const uint8_t* p = static_cast<const uint8_t*>(s.data) + at;
  const __m256i upper = _mm256_maskz_loadu_epi8(mask, p);
  const __m256i lower = odd ? _mm256_maskz_loadu_epi8(mask, p + s.stride) : _mm256_setzero_si256();
  decodePairs(_mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1), s, acrossRows<S>, first, second);
}

/**
 * A block of a transposed source as pairs, for panels of R rows side by side, `stride` words apart. The panels are inside
 * the loop over k, so that a line of memory is read once.
 */
template <long R>
void pairsOfColumns(float* out, long stride, const Source& s, long first, long count, long k0, long length) {
  // Two vectors at once: the two halves of a panel of 32, or two panels of fewer.
  constexpr bool wide = R == 32;
  constexpr int half = wide ? 16 : static_cast<int>(R);
  static_assert(half <= 16);
  constexpr __mmask16 stored = static_cast<__mmask16>((1u << half) - 1u);
  const long next = wide ? half : stride;
  for (long kk = 0; kk < length; kk += 2) {
    const long at = (k0 + kk) * s.stride + first;
    float* words = out + kk / 2 * R;
    const bool odd = kk + 1 < length;
    for (long column = 0; column < count; column += 2 * half) {
      __m512i a;
      __m512i b;
      pairsAcrossRows<half>(s, at + column, odd, minOf(2 * half, count - column), a, b);
      _mm512_mask_storeu_epi32(words, stored, a);
      if (wide || column + half < count) _mm512_mask_storeu_epi32(words + next, stored, b);
      words += wide ? stride : 2 * stride;
    }
  }
}

}  // namespace BALEEN_ISA
}  // namespace baleen

#endif
