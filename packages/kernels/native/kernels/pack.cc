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
#if defined(BALEEN_AVX512)
  if (dtype == DType::bf16)
    return fromBf16(_mm512_cvtepu16_epi32(
        _mm256_maskz_loadu_epi16(firstLanes(n), static_cast<const uint16_t*>(data) + at)));
  return fromE4m3(_mm512_cvtepu8_epi32(
      _mm_maskz_loadu_epi8(firstLanes(n), static_cast<const uint8_t*>(data) + at)));
#else
  if (dtype == DType::bf16) return loadBf16Partial(static_cast<const uint16_t*>(data) + at, n);
  uint8_t codes[W] = {};
  memcpy(codes, static_cast<const uint8_t*>(data) + at, static_cast<size_t>(n));
  return fromE4m3(load8(codes));
#endif
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

/** out[j · rows + i] = in[i · stride + j] for i < rows, j < width, words of four bytes. */
void transposeWords(const float* in, long stride, long width, float* out, long rows) {
#if defined(BALEEN_AVX512)
  if (rows % 16 == 0 && width % 16 == 0) {
    for (long i = 0; i < rows; i += 16)
      for (long j = 0; j < width; j += 16)
        transpose16(in + i * stride + j, stride, out + j * rows + i, rows);
    return;
  }
#endif
  for (long j = 0; j < width; j += 1)
    for (long i = 0; i < rows; i += 1) out[j * rows + i] = in[i * stride + j];
}

/** One row of a block by itself: `length` values of k as words (FP32, or pairs), zeros up to a multiple of 32. */
void rowWords(float* out, const Source& s, long row, long k0, long length) {
#if defined(BALEEN_AVX512BF16)
  if (pairs(s.dtype)) {
    for (long kk = 0; kk < length; kk += 32) {
      const __m512i x = loadHalves(s.data, s.dtype, row * s.stride + k0 + kk, length - kk);
      _mm512_storeu_si512(out + kk / 2, _mm512_rol_epi32(x, 16));
    }
    return;
  }
#endif
  for (long kk = 0; kk < ceilDiv(length, 32) * 32; kk += W)
    store(out + kk, loadAny(s.data, s.dtype, row * s.stride + k0 + kk, length - kk));
}

/**
 * A block of a transposed source, for several panels side by side (`stride` words apart): words of `rows` neighbouring
 * rows for each k, or pair of them. The panels are inside the loop over k, so that a line of memory is read once.
 */
void columnWords(float* out, long stride, const Source& s, long first, long count, long rows, long k0, long length) {
  const bool two = pairs(s.dtype);
  for (long kk = 0; kk < length; kk += two ? 2 : 1) {
    const long at = (k0 + kk) * s.stride + first;
    float* words = out + (two ? kk / 2 : kk) * rows;
    for (long panel = 0; panel < count; panel += rows, words += stride)
      for (long i = 0; i < rows; i += W) {
        const long n = minOf(rows, count - panel) - i;
        vf word;
#if defined(BALEEN_AVX512BF16)
        if (two) {
          const vi upper = shiftLeft<16>(halfLanes(s.data, s.dtype, at + panel + i, n));
          const vi lower =
              kk + 1 < length ? halfLanes(s.data, s.dtype, at + s.stride + panel + i, n) : set1i(0);
          word = asFloat(ori(upper, lower));
        } else {
          word = loadAny(s.data, s.dtype, at + panel + i, n);
        }
#else
        word = loadAny(s.data, s.dtype, at + panel + i, n);
#endif
        if (i + W <= rows) {
          store(words + i, word);
        } else {
          storePartial(words + i, word, rows - i);
        }
      }
  }
}

/** The panel's scales [block of k][row]. */
void packScales(float* out, const Source& s, long first, long count, long rows, long k0, long k) {
  for (long kb = 0; kb * depth < k; kb += 1)
    for (long i = 0; i < rows; i += 1) {
      const long row = first + (i < count ? i : 0);
      const long kk = k0 + kb * depth;
      const long at = s.transposed
                          ? (kk / s.blockRows) * s.scaleStride + row / s.blockCols
                          : (row / s.blockRows) * s.scaleStride + kk / s.blockCols;
      out[kb * rows + i] = s.scales[at];
    }
}

float* scalesOf(void* panel, DType dtype, long rows, long k) {
  return reinterpret_cast<float*>(static_cast<char*>(panel) + ceilDiv(k, depth) * blockBytes(rows, dtype));
}

}  // namespace

void packA(void* panels, const Source& s, long first, long count, long k0, long k) {
  const long words = blockBytes(rowsA, s.dtype) / 4;
  const long stride = panelBytes(rowsA, k, s.dtype) / 4;
  float* out = static_cast<float*>(panels);
  for (long kk = 0; kk < k; kk += depth, out += words) {
    const long length = minOf(depth, k - kk);
    if (s.transposed) {
      columnWords(out, stride, s, first, count, rowsA, k0 + kk, length);
      continue;
    }
    // The last panel's rows that are not there stay as they are: nobody stores what comes of them.
    for (long i = 0; i < count; i += 1)
      rowWords(out + i / rowsA * stride + i % rowsA * (words / rowsA), s, first + i, k0 + kk, length);
  }
  if (s.scales == nullptr) return;
  for (long row = 0; row < count; row += rowsA)
    packScales(scalesOf(static_cast<float*>(panels) + row / rowsA * stride, s.dtype, rowsA, k), s, first + row,
               minOf(rowsA, count - row), rowsA, k0, k);
}

void packB(void* panel, const Source& s, long first, long count, long k) {
  const long words = blockBytes(rowsB, s.dtype) / 4;
  float* out = static_cast<float*>(panel);
  alignas(64) float rows[rowsB * depth];
  for (long kk = 0; kk < k; kk += depth, out += words) {
    const long length = minOf(depth, k - kk);
    if (s.transposed) {
      columnWords(out, 0, s, first, count, rowsB, kk, length);
    } else {
      const long stride = words / rowsB;
      for (long i = 0; i < rowsB; i += 1)
        rowWords(rows + i * stride, s, first + (i < count ? i : 0), kk, length);
      const long used = ceilDiv(length, 32) * 32 * stride / depth;
      transposeWords(rows, stride, used, out, rowsB);
    }
  }
  if (s.scales != nullptr) packScales(scalesOf(panel, s.dtype, rowsB, k), s, first, count, rowsB, 0, k);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
