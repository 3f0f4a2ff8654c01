// Packing of operands into panels (see product.h): values become FP32, or pairs of BF16 with the even k above.
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** W values from `p` on as FP32, whatever their type; the first n of them, zeros behind. */
inline vf loadAny(const void* data, DType dtype, long at, long n) {
  if (n >= W) {
    if (dtype == DType::f32) return load(static_cast<const float*>(data) + at);
    if (dtype == DType::bf16) return loadBf16(static_cast<const uint16_t*>(data) + at);
    return fromE4m3(load8(static_cast<const uint8_t*>(data) + at));
  }
  if (n <= 0) return set1(0);
  if (dtype == DType::f32) return loadPartial(static_cast<const float*>(data) + at, n);
  if (dtype == DType::bf16) return loadBf16Partial(static_cast<const uint16_t*>(data) + at, n);
  uint8_t codes[W] = {};
  memcpy(codes, static_cast<const uint8_t*>(data) + at, static_cast<size_t>(n));
  return fromE4m3(load8(codes));
}

#if defined(BALEEN_AVX512BF16)
/** 32 values as BF16 patterns in ascending order; the first n of them, zeros behind. */
inline __m512i loadHalves(const void* data, DType dtype, long at, long n) {
  const __mmask32 mask = n >= 32 ? ~0u : n <= 0 ? 0u : (1u << n) - 1u;
  if (dtype == DType::bf16)
    return _mm512_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(data) + at);
  const __m256i codes = _mm256_maskz_loadu_epi8(mask, static_cast<const uint8_t*>(data) + at);
  const __m512i wide = _mm512_cvtepu8_epi16(codes);
  const __m512i magnitude = _mm512_and_si512(wide, _mm512_set1_epi16(0x7f));
  const __m512i sign = _mm512_slli_epi16(_mm512_and_si512(wide, _mm512_set1_epi16(0x80)), 8);
  __m512i bits = _mm512_add_epi16(_mm512_slli_epi16(magnitude, 4), _mm512_set1_epi16(120 << 7));
  // Codes below 8 are multiples of 2⁻⁹: their BF16 patterns from a table, by permutation.
  const __m512i table = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                         0x3c60, 0x3c40, 0x3c20, 0x3c00, 0x3bc0, 0x3b80, 0x3b00, 0);
  bits = _mm512_mask_permutexvar_epi16(
      bits, _mm512_cmplt_epu16_mask(magnitude, _mm512_set1_epi16(8)), magnitude, table);
  bits = _mm512_mask_mov_epi16(bits, _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x7f)),
                               _mm512_set1_epi16(0x7fc0));
  return _mm512_or_si512(bits, sign);
}

/** The BF16 patterns of W values in the lower halves of integers. */
inline vi halfLanes(const void* data, DType dtype, long at, long n) {
  if (dtype == DType::bf16) {
    const __m256i x = _mm256_maskz_loadu_epi16(n >= W ? 0xffff : firstLanes(n),
                                               static_cast<const uint16_t*>(data) + at);
    return _mm512_cvtepu16_epi32(x);
  }
  return shiftRight<16>(asInt(loadAny(data, dtype, at, n)));
}
#endif

#if defined(BALEEN_AVX512)
/** Transposes 16 × 16 words: out[j · outStride + i] = in[i · inStride + j]. */
inline void transpose16(const float* in, long inStride, float* out, long outStride) {
  __m512 r[16];
  __m512 t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 1) r[i] = _mm512_loadu_ps(in + i * inStride);
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 1) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i += 1) {
    r[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i += 1) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i += 1) {
    _mm512_storeu_ps(out + i * outStride, _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88));
    _mm512_storeu_ps(out + (4 + i) * outStride, _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88));
    _mm512_storeu_ps(out + (8 + i) * outStride, _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd));
    _mm512_storeu_ps(out + (12 + i) * outStride, _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd));
  }
}
#endif

/** out[j · rows + i] = in[i · width + j] for i < rows, j < width, words of four bytes. */
void transposeWords(const float* in, long width, float* out, long rows) {
#if defined(BALEEN_AVX512)
  if (rows % 16 == 0 && width % 16 == 0) {
    for (long i = 0; i < rows; i += 16)
      for (long j = 0; j < width; j += 16)
        transpose16(in + i * width + j, width, out + j * rows + i, rows);
    return;
  }
#endif
  for (long j = 0; j < width; j += 1)
    for (long i = 0; i < rows; i += 1) out[j * rows + i] = in[i * width + j];
}

/** One row of a block by itself: `length` values of k as words (FP32, or pairs), zeros up to the block's end. */
void rowWords(float* out, const Source& s, long row, long k0, long length) {
#if defined(BALEEN_AVX512BF16)
  if (pairs(s.dtype)) {
    for (long kk = 0; kk < depth; kk += 32) {
      const __m512i x = loadHalves(s.data, s.dtype, row * s.stride + k0 + kk, length - kk);
      _mm512_storeu_si512(out + kk / 2, _mm512_rol_epi32(x, 16));
    }
    return;
  }
#endif
  for (long kk = 0; kk < depth; kk += W)
    store(out + kk, loadAny(s.data, s.dtype, row * s.stride + k0 + kk, length - kk));
}

/** A block of a transposed source: words of `rows` neighbouring rows, for each k (or pair of them). */
void columnWords(float* out, const Source& s, long first, long count, long rows, long k0, long length) {
#if defined(BALEEN_AVX512BF16)
  if (pairs(s.dtype)) {
    for (long kk = 0; kk < length; kk += 2) {
      const long even = (k0 + kk) * s.stride + first;
      const long odd = even + s.stride;
      for (long i = 0; i < rows; i += W) {
        const vi upper = shiftLeft<16>(halfLanes(s.data, s.dtype, even + i, count - i));
        const vi lower = kk + 1 < length ? halfLanes(s.data, s.dtype, odd + i, count - i) : set1i(0);
        const vf word = asFloat(ori(upper, lower));
        if (i + W <= rows) {
          store(out + (kk / 2) * rows + i, word);
        } else {
          storePartial(out + (kk / 2) * rows + i, word, rows - i);
        }
      }
    }
    return;
  }
#endif
  for (long kk = 0; kk < length; kk += 1) {
    const long at = (k0 + kk) * s.stride + first;
    for (long i = 0; i < rows; i += W) {
      const vf word = loadAny(s.data, s.dtype, at + i, count - i);
      if (i + W <= rows) {
        store(out + kk * rows + i, word);
      } else {
        storePartial(out + kk * rows + i, word, rows - i);
      }
    }
  }
}

/** The panel's scales [block of k][row]. */
void packScales(float* out, const Source& s, long first, long count, long rows, long k) {
  for (long kb = 0; kb * depth < k; kb += 1)
    for (long i = 0; i < rows; i += 1) {
      const long row = first + (i < count ? i : 0);
      const long k0 = kb * depth;
      const long at = s.transposed
                          ? (k0 / s.blockRows) * s.scaleStride + row / s.blockCols
                          : (row / s.blockRows) * s.scaleStride + k0 / s.blockCols;
      out[kb * rows + i] = s.scales[at];
    }
}

float* scalesOf(void* panel, DType dtype, long rows, long k) {
  return reinterpret_cast<float*>(static_cast<char*>(panel) + ceilDiv(k, depth) * blockBytes(rows, dtype));
}

}  // namespace

void packA(void* panel, const Source& s, long first, long count, long k) {
  const long words = blockBytes(rowsA, s.dtype) / 4;
  float* out = static_cast<float*>(panel);
  for (long k0 = 0; k0 < k; k0 += depth, out += words) {
    const long length = minOf(depth, k - k0);
    if (s.transposed) {
      columnWords(out, s, first, count, rowsA, k0, length);
    } else {
      // Rows that are not there are never stored; they only must not be signalling garbage.
      for (long i = 0; i < rowsA; i += 1)
        rowWords(out + i * (words / rowsA), s, first + (i < count ? i : 0), k0, length);
    }
  }
  if (s.scales != nullptr) packScales(scalesOf(panel, s.dtype, rowsA, k), s, first, count, rowsA, k);
}

void packB(void* panel, const Source& s, long first, long count, long k) {
  const long words = blockBytes(rowsB, s.dtype) / 4;
  float* out = static_cast<float*>(panel);
  alignas(64) float rows[rowsB * depth];
  for (long k0 = 0; k0 < k; k0 += depth, out += words) {
    const long length = minOf(depth, k - k0);
    if (s.transposed) {
      columnWords(out, s, first, count, rowsB, k0, length);
    } else {
      const long width = words / rowsB;
      for (long i = 0; i < rowsB; i += 1)
        rowWords(rows + i * width, s, first + (i < count ? i : 0), k0, length);
      transposeWords(rows, width, out, rowsB);
    }
  }
  if (s.scales != nullptr) packScales(scalesOf(panel, s.dtype, rowsB, k), s, first, count, rowsB, k);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
