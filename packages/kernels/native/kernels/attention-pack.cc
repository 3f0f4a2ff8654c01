// Packing for attention (see attention.h): rows of words first, then transposed or interleaved from there.
#include "../shuffle.h"
#include "attention.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

#if defined(BALEEN_AVX512BF16)
/** 32 BF16 values, those that `mask` names, as pairs. */
inline vf loadPairs(const uint16_t* x, __mmask32 mask) { return (vf)_mm512_maskz_loadu_epi16(mask, x); }
inline vf loadPairs(const float* x, __mmask32 mask) {
  return pairsOf(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x),
                 _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), x + W));
}

/**
 * Rows as pairs of BF16, zeros up to a multiple of 32. Few instructions a row: so many rows' loads are under way at
 * once, which lie too far apart for prefetching.
 */
template <class Element>
void packPairs(const Element* x, long stride, long count, long width, float* out) {
  const long whole = width / 32 * 32;
  const __mmask32 tail = (__mmask32{1} << (width - whole)) - 1;
  for (long i = 0; i < count; i += 1, x += stride) {
    for (long c = 0; c < whole; c += 32, out += W) store(out, loadPairs(x + c, ~__mmask32{0}));
    if (tail != 0) {
      store(out, loadPairs(x + whole, tail));
      out += W;
    }
  }
}
#endif

/** A row of values as FP32, rounded to BF16 where all operands are. */
template <class Element>
void packFloats(const Element* x, long width, long pitch, bool rounded, float* out) {
  forRange(0, width, [&](auto at, long c) {
    const vf value = at.load(x + c);
    store(out + c, rounded ? roundedBf16(value) : value);
  });
  for (long c = roundUp(width, W); c < pitch; c += W) store(out + c, set1(0));
}

}  // namespace

template <bool Pairs>
void packRows(const HeadRows& s, long first, long count, long padded, bool low, float* out) {
  const long pitch = pitchOf<Pairs>(s.width);
  const long begin = s.offset + first * s.stride;
  const uint16_t* halves = static_cast<const uint16_t*>(s.tensor) + begin;
  const float* floats = static_cast<const float*>(s.tensor) + begin;
#if defined(BALEEN_AVX512BF16)
  if constexpr (Pairs) {
    if (s.dtype == DType::bf16) {
      packPairs(halves, s.stride, count, s.width, out);
    } else {
      packPairs(floats, s.stride, count, s.width, out);
    }
  }
#endif
  if constexpr (!Pairs)
    for (long i = 0; i < count; i += 1) {
      if (s.dtype == DType::bf16) {
        packFloats(halves + i * s.stride, s.width, pitch, false, out + i * pitch);
      } else {
        packFloats(floats + i * s.stride, s.width, pitch, low, out + i * pitch);
      }
    }
  memset(out + count * pitch, 0, static_cast<size_t>((padded - count) * pitch) * 4);
}

void packColumns(const float* rows, long count, long pitch, float* out) {
  for (long panel = 0; panel < count; panel += panelCols) {
    const float* in = rows + panel * pitch;
    float* to = out + panel * pitch;
    for (long c = 0; c < pitch; c += side)
      for (long i = 0; i < panelCols; i += side)
        transposeSquare(in + i * pitch + c, pitch, to + c * panelCols + i, panelCols);
  }
}

template <bool Pairs>
void packSums(const float* rows, long count, long pitch, float* out, long stride) {
#if defined(BALEEN_AVX512BF16)
  if constexpr (Pairs) {
    alignas(64) uint16_t lanes[64];
    for (int i = 0; i < 32; i += 1) {
      lanes[2 * i] = static_cast<uint16_t>(i);
      lanes[2 * i + 1] = static_cast<uint16_t>(32 + i);
    }
    const vi first = _mm512_load_si512(lanes);
    const vi second = _mm512_load_si512(lanes + 32);
    for (long c = 0; c < pitch; c += W, out += stride)
      for (long t = 0; t < count / 2; t += 1) {
        const vi even = asInt(load(rows + 2 * t * pitch + c));
        const vi odd = asInt(load(rows + (2 * t + 1) * pitch + c));
        store(out + t * panelCols, asFloat(_mm512_permutex2var_epi16(even, first, odd)));
        store(out + t * panelCols + W, asFloat(_mm512_permutex2var_epi16(even, second, odd)));
      }
    return;
  }
#endif
  for (long c = 0; c < pitch; c += W)
    for (long i = 0; i < count; i += 1)
      store(out + c / panelCols * stride + i * panelCols + c % panelCols, load(rows + i * pitch + c));
}

template void packRows<false>(const HeadRows&, long, long, long, bool, float*);
template void packSums<false>(const float*, long, long, float*, long);
#if defined(BALEEN_AVX512BF16)
template void packRows<true>(const HeadRows&, long, long, long, bool, float*);
template void packSums<true>(const float*, long, long, float*, long);
#endif

}  // namespace BALEEN_ISA
}  // namespace baleen
