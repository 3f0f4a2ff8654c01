// Decoding scaled FP8 matrices for kernels/quantize.cc: rows and panels of codes times the scales of their blocks.
#pragma once
#include "elements.h"
#include "fp8.h"

namespace baleen {
namespace BALEEN_ISA {

/** Columns of a 1×128 block, and of a panel that is read both ways. */
static constexpr long tile = 128;

/** `count` codes times their scales, fl(value · scale) each: one scale, or one a column. `to` writes whole vectors. */
template <class F, class To, class ScaleAt, class At>
static inline void decodeRun(To* out, const uint8_t* codes, long count, ScaleAt&& scaleAt, At to) {
  const Whole whole;
  long c = 0;
  for (; c + 4 * W <= count; c += 4 * W) {
    vf values[4];
    loadFour<F>(codes + c, values);
    for (int v = 0; v < 4; v += 1)
      to.store(out + c + v * W, mul(values[v], scaleAt(whole, c + v * W)));
  }
  forRange(c, count, [&](auto at, long i) {
    at.store(out + i, mul(fromCodes<F>(at.loadCodes(codes + i)), scaleAt(at, i)));
  });
}

/** Numbers of one block; a whole one's loop is one that the compiler knows. Left to itself it may call this a block. */
template <class F, class To, class At = Whole>
[[gnu::always_inline]] static inline void decodeBlock(To* out, const uint8_t* codes, long count, float scale, At to = {}) {
  const vf factor = set1(scale);
  const auto scaleAt = [&](auto, long) { return factor; };
  if (count == tile)
    decodeRun<F>(out, codes, tile, scaleAt, to);
  else
    decodeRun<F>(out, codes, count, scaleAt, to);
}

/** Columns [begin, end) of row `row` of a scaled matrix into out[0 …] (FP32 or BF16). */
template <class F, class To, class At = Whole>
static void decodeRow(To* out, const Operand& x, long cols, long row, long begin, long end,
                      At to = {}) {
  const uint8_t* codes = x.values.codes() + row * cols;
  const long scaleCols = x.blockCols == 1 ? cols : ceilDiv(cols, x.blockCols);
  const float* scales = x.scales.f32() + (x.blockRows == 1 ? row : row / x.blockRows) * scaleCols;
  if (x.blockCols == 1) {
    decodeRun<F>(out, codes + begin, end - begin,
              [&](auto at, long c) { return at.load(scales + begin + c); }, to);
    return;
  }
  long c0 = begin;
  for (long block = begin / x.blockCols; c0 < end; block += 1) {
    const long c1 = minOf(end, (block + 1) * x.blockCols);
    decodeBlock<F>(out + (c0 - begin), codes + c0, c1 - c0, scales[block], to);
    c0 = c1;
  }
}

/** Rows [first, first + rows) and columns [begin, begin + cols), one row after another. */
template <class F>
static void decodePanel(float* out, const Operand& x, long matrixCols, long first, long rows,
                        long begin, long cols) {
  if (x.blockRows != 1 || x.blockCols != tile || begin / tile != (begin + cols - 1) / tile) {
    for (long r = 0; r < rows; r += 1)
      decodeRow<F>(out + r * cols, x, matrixCols, first + r, begin, begin + cols);
    return;
  }
  const long scaleCols = ceilDiv(matrixCols, tile);
  const uint8_t* codes = x.values.codes() + first * matrixCols + begin;
  const float* scales = x.scales.f32() + first * scaleCols + begin / tile;
  for (long r = 0; r < rows; r += 1) {
    decodeBlock<F>(out + r * cols, codes + r * matrixCols, cols, scales[r * scaleCols]);
  }
}

}  // namespace BALEEN_ISA
}  // namespace baleen
