// Packing of operands into panels (see product.h): values become FP32, or pairs of BF16 with the even k above.
#include "../fp8.h"
#include "../shuffle.h"
#include "pairs.h"
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** The values of 8-bit codes. */
inline vf fromFp8(vi codes, DType dtype) {
  return withFormat(dtype, [&](auto format) { return fromCodes<decltype(format)>(codes); });
}

/** W values from `p` on as FP32, whatever their type; the first n of them, zeros behind. */
inline vf loadAny(const void* data, DType dtype, long at, long n) {
  if (n >= W) {
    if (dtype == DType::f32) return load(static_cast<const float*>(data) + at);
    if (dtype == DType::bf16) return loadBf16(static_cast<const uint16_t*>(data) + at);
    return fromFp8(load8(static_cast<const uint8_t*>(data) + at), dtype);
  }
  if (n <= 0) return set1(0);
  if (dtype == DType::f32) return loadPartial(static_cast<const float*>(data) + at, n);
  if (dtype == DType::bf16) return loadBf16Partial(static_cast<const uint16_t*>(data) + at, n);
  return fromFp8(load8Partial(static_cast<const uint8_t*>(data) + at, n), dtype);
}

/** One row of a block by itself: `length` values of k as words (FP32, or pairs), zeros up to a multiple of 32. */
void rowWords(float* out, const Source& s, long row, long k0, long length) {
#if defined(BALEEN_AVX512BF16)
  if (pairs(s.dtype)) {
    pairsAlongRow(out, s, row, k0, length);
    return;
  }
#endif
  for (long kk = 0; kk < ceilDiv(length, 32) * 32; kk += W)
    store(out + kk, loadAny(s.data, s.dtype, row * s.stride + k0 + kk, length - kk));
}

/**
 * A block of a transposed source, for panels of R rows side by side (`stride` words apart): words of a panel's rows for
 * each k, or pair of them. The panels are inside the loop over k, so that a line of memory is read once.
 */
template <long R>
void columnWords(float* out, long stride, const Source& s, long first, long count, long k0, long length) {
#if defined(BALEEN_AVX512BF16)
  if (pairs(s.dtype)) {
    pairsOfColumns<R>(out, stride, s, first, count, k0, length);
    return;
  }
#endif
  for (long kk = 0; kk < length; kk += 1) {
    const long at = (k0 + kk) * s.stride + first;
    float* words = out + kk * R;
    for (long panel = 0; panel < count; panel += R, words += stride)
      for (long i = 0; i < R; i += W) {
        const vf word = loadAny(s.data, s.dtype, at + panel + i, minOf(R, count - panel) - i);
        if (i + W <= R) {
          store(words + i, word);
        } else {
          storePartial(words + i, word, R - i);
        }
      }
  }
}

/**
 * A block of a whole panel of b, transposed where it lies in memory: a word is one FP32, or two BF16 that come apart
 * afterwards, which is half as many to move. False where it must go row by row: types and sizes that are no whole words.
 */
bool panelWords(float* out, const Source& s, long row, long k0, long length) {
  if (pairs(s.dtype) || length % 32 != 0) return false;
  if (s.dtype == DType::f32) {
    transposeWords(static_cast<const float*>(s.data) + row * s.stride + k0, s.stride, length, out, rowsB);
    return true;
  }
  if (s.dtype != DType::bf16 || s.stride % 2 != 0) return false;
  alignas(64) float words[depth / 2 * rowsB];
  const uint16_t* at = static_cast<const uint16_t*>(s.data) + row * s.stride + k0;
  transposeWords(reinterpret_cast<const float*>(at), s.stride / 2, length / 2, words, rowsB);
  for (long pair = 0; pair < length / 2; pair += 1, out += 2 * rowsB)
    for (long i = 0; i < rowsB; i += W) {
      const vi both = asInt(load(words + pair * rowsB + i));
      store(out + i, fromBf16(both));
      store(out + rowsB + i, asFloat(andi(both, set1i(static_cast<int>(0xffff0000u)))));
    }
  return true;
}

/** Asks for the next block of k of a panel's rows while this one is packed: pieces of many rows are no stream. */
void prefetchRows(const Source& s, long first, long count, long k0) {
  const long size = elementBytes(s.dtype);
  const char* at = static_cast<const char*>(s.data) + (first * s.stride + k0) * size;
  for (long i = 0; i < count; i += 1, at += s.stride * size)
    for (long line = 0; line < depth * size; line += 64) __builtin_prefetch(at + line);
}

/** The panel's scales [block of k][row]; blocks span 128 along k and 1 or 128 across. */
void packScales(float* out, const Source& s, long first, long count, long rows, long k0, long k) {
  const bool fine = (s.transposed ? s.blockCols : s.blockRows) == 1;
  const long across = s.transposed ? 1 : s.scaleStride;
  const float* at = s.scales + k0 / depth * (s.transposed ? s.scaleStride : 1);
  for (long kk = 0; kk < k; kk += depth, out += rows, at += s.transposed ? s.scaleStride : 1) {
    for (long i = 0; i < count; i += 1) out[i] = at[(fine ? first + i : (first + i) / depth) * across];
    // Rows that are not there: any number will do.
    for (long i = count; i < rows; i += 1) out[i] = 0;
  }
}

float* scalesOf(float* panel, DType dtype, long rows, const PanelsOut& panels) {
  return panel + ceilDiv(panels.k, depth) * (blockBytes(rows, dtype) / 4) + panels.firstBlock * rows;
}

template <long R>
void packAllScales(const PanelsOut& panels, const Source& s, long first, long count, long k0, long k) {
  if (s.scales == nullptr) return;
  const long stride = panelBytes(R, panels.k, s.dtype) / 4;
  float* panel = reinterpret_cast<float*>(panels.data);
  for (long row = 0; row < count; row += R, panel += stride)
    packScales(scalesOf(panel, s.dtype, R, panels), s, first + row, minOf(R, count - row), R, k0, k);
}

}  // namespace

void packA(const PanelsOut& panels, const Source& s, long first, long count, long k0, long k) {
  const long words = blockBytes(rowsA, s.dtype) / 4;
  const long stride = panelBytes(rowsA, panels.k, s.dtype) / 4;
  float* out = reinterpret_cast<float*>(panels.data) + panels.firstBlock * words;
  if (s.transposed) {
    for (long kk = 0; kk < k; kk += depth, out += words)
      columnWords<rowsA>(out, stride, s, first, count, k0 + kk, minOf(depth, k - kk));
  } else {
    // A row at a time, as memory is read fastest. The last panel's rows that are not there stay as they are: nobody
    // stores what comes of them.
    for (long i = 0; i < count; i += 1) {
      float* row = out + i / rowsA * stride + i % rowsA * (words / rowsA);
      for (long kk = 0; kk < k; kk += depth, row += words)
        rowWords(row, s, first + i, k0 + kk, minOf(depth, k - kk));
    }
  }
  packAllScales<rowsA>(panels, s, first, count, k0, k);
}

void packB(const PanelsOut& panels, const Source& s, long first, long count, long k0, long k) {
  const long words = blockBytes(rowsB, s.dtype) / 4;
  const long stride = panelBytes(rowsB, panels.k, s.dtype) / 4;
  float* out = reinterpret_cast<float*>(panels.data) + panels.firstBlock * words;
  alignas(64) float rows[rowsB * depth];
  for (long kk = 0; kk < k; kk += depth, out += words) {
    const long length = minOf(depth, k - kk);
    if (s.transposed) {
      columnWords<rowsB>(out, stride, s, first, count, k0 + kk, length);
      continue;
    }
    const long width = words / rowsB;
    const long used = ceilDiv(length, 32) * 32 * width / depth;
    for (long row = 0; row < count; row += rowsB) {
      if (kk + depth < k) prefetchRows(s, first + row, minOf(rowsB, count - row), k0 + kk + depth);
      float* panel = out + row / rowsB * stride;
      if (row + rowsB <= count && panelWords(panel, s, first + row, k0 + kk, length)) continue;
      for (long i = 0; i < rowsB; i += 1)
        rowWords(rows + i * width, s, first + (row + i < count ? row + i : 0), k0 + kk, length);
      transposeWords(rows, width, used, panel, rowsB);
    }
  }
  packAllScales<rowsB>(panels, s, first, count, k0, k);
}

void decodePiece(float* out, long stride, long width, const Source& s, const StoredPiece& piece) {
  long at = piece.row * s.stride + piece.col;
  for (long i = 0; i < piece.rows; i += 1, out += stride, at += s.stride)
    for (long j = 0; j < width; j += W) store(out + j, loadAny(s.data, s.dtype, at + j, piece.cols - j));
}

}  // namespace BALEEN_ISA
}  // namespace baleen
