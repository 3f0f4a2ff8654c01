// FP8 quantisation in blocks with online scales (§3.3.2), to the bit as src/reference/quantize.ts: quotients are those of
// true divisions, maxima pass over NaN, every rounding is to nearest even.
//
// Here is how matrices are cut; ../blocks.h has the loops, ../fp8.h the codes. Work is cut into panels: a row of blocks by
// the columns of one block, or by 128 columns where every column is a block of its own (128×1). While a panel is worked on,
// the next one is fetched.
#include "../blocks.h"
#include "../e5m6.h"
#include "encode.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

/**
 * How a matrix divides into rows of blocks: blocks start anew at every row group's first row. Groups are as high as each
 * other (a stack of matrices), or as the borders say.
 */
struct Blocks {
  const int32_t* borders;
  long height, groups, blockRows;
  long group, first, last;

  long border(long g) const { return borders != nullptr ? borders[g] : g * height; }

  /** Blocks of all groups. */
  long count() const {
    long sum = 0;
    for (long g = 0; g < groups; g += 1) sum += ceilDiv(border(g + 1) - border(g), blockRows);
    return sum;
  }
  /** Goes to a row of blocks by its number: rows [first, last). */
  void seek(long index) {
    group = 0;
    while (index >= ceilDiv(border(group + 1) - border(group), blockRows)) {
      index -= ceilDiv(border(group + 1) - border(group), blockRows);
      group += 1;
    }
    first = border(group) + index * blockRows;
    last = minOf(border(group + 1), first + blockRows);
  }
  /** Goes to the next row of blocks, if there is one. */
  void advance() {
    first = last;
    while (group < groups && first >= border(group + 1)) {
      group += 1;
      if (group < groups) first = border(group);
    }
    if (group < groups) last = minOf(border(group + 1), first + blockRows);
  }
};

struct Sizes {
  long rows, cols;
  Scaling scaling;
  View offsets;
  long groups;
  long stack;
};

static Sizes sizesOf(Args& args) {
  Sizes s;
  s.rows = args.integer();
  s.cols = args.integer();
  s.scaling = {args.flag()};
  s.offsets = args.view();
  s.groups = args.integer();
  s.stack = maxOf(1, args.integer());
  return s;
}

/** More than the second-level cache holds: what comes next is fetched while something is encoded. */
static bool isLarge(const Sizes& s) { return s.stack * s.rows * s.cols > (1 << 18); }

/** Columns of a panel: a block's, or a tile's where blocks are one column wide. */
static long panelWidth(const Operand& out, long cols) {
  if (out.blockCols != 1) return out.blockCols;
  return minOf(maxOf(1, cols), tile);
}

/** Calls `body(panel, row of blocks, panel's first column)` for every panel of a matrix, on all threads. */
template <class Body>
static void forPanels(const Operand& out, long width, const float* x, const Operand* coded,
                      const Sizes& s, Body&& body) {
  Blocks blocks = {};
  blocks.borders = s.offsets ? s.offsets.i32() : nullptr;
  blocks.height = s.rows;
  blocks.groups = s.offsets ? s.groups : s.stack;
  blocks.blockRows = out.blockRows;
  const long panels = ceilDiv(s.cols, width);
  const long panelSize = maxOf(1, minOf(out.blockRows, s.rows) * minOf(width, s.cols));
  const bool large = isLarge(s);
  parallelRanges(blocks.count() * panels, maxOf(1, 16384 / panelSize), 1, [&](long begin, long end) {
    Blocks at = blocks;
    at.seek(begin / panels);
    long block = begin / panels;
    long panel = begin % panels;
    float* decoded = nullptr;
    if (coded != nullptr)
      decoded = static_cast<float*>(
          scratch(Scratch::first, static_cast<size_t>(panelSize) * sizeof(float)));
    for (long i = begin; i < end; i += 1) {
      const long c = panel * width;
      Panel p;
      p.rows = at.last - at.first;
      p.cols = minOf(width, s.cols - c);
      p.codes = out.values.codes() + at.first * s.cols + c;
      p.codesStride = s.cols;
      p.x = x + at.first * s.cols + c;
      p.xStride = s.cols;
      p.next = nullptr;
      if (large) p.next = panel + 1 < panels ? p.x + width : x + at.last * s.cols;
      if (coded != nullptr) {
        p.x = decoded;
        p.xStride = p.cols;
        p.next = nullptr;
        withFormat(coded->values.dtype, [&](auto format) {
          decodePanel<decltype(format)>(decoded, *coded, s.cols, at.first, p.rows, c, p.cols);
        });
      }
      body(p, at.first, block, c);
      panel += 1;
      if (panel == panels) {
        panel = 0;
        block += 1;
        at.advance();
      }
    }
  });
}

/** Block after block as they lie. */
template <class F>
static void encodeRowsIn(const Operand& out, const float* x, long first, long rows, long cols,
                         const Scaling& scaling, bool ahead) {
  Run runs[batch];
  long count = 0;
  float* scales = out.scales.f32() + first * ceilDiv(cols, out.blockCols);
  uint8_t* codes = out.values.codes() + first * cols;
  for (long r = 0; r < rows; r += 1)
    for (long c = 0; c < cols; c += out.blockCols) {
      const long at = r * cols + c;
      runs[count++] = {x + at, codes + at, minOf(out.blockCols, cols - c)};
      if (count < batch) continue;
      quantizeRuns<F>(runs, count, scales, scaling, ahead);
      scales += count;
      count = 0;
    }
  quantizeRuns<F>(runs, count, scales, scaling);
}

void encodeRows(const Operand& out, const float* x, long first, long rows, long cols,
                const Scaling& scaling, bool ahead) {
  withFormat(out.values.dtype, [&](auto format) {
    encodeRowsIn<decltype(format)>(out, x, first, rows, cols, scaling, ahead);
  });
}

/** Rows of blocks one row high, plain. */
static void quantizeRows(const Operand& out, const float* x, const Sizes& s) {
  parallelRanges(s.rows * s.stack, rowGrain(s.cols), 1, [&](long begin, long end) {
    encodeRows(out, x + begin * s.cols, begin, end - begin, s.cols, s.scaling, isLarge(s));
  });
}

/** Quantises `x`, or what `coded` stands for: one of them is null. */
static void quantizeMatrix(const Operand& out, const float* x, const Operand* coded,
                           const Sizes& s) {
  if (out.blockRows == 1 && coded == nullptr) return quantizeRows(out, x, s);
  const long scaleCols = ceilDiv(s.cols, out.blockCols);
  withFormat(out.values.dtype, [&](auto format) {
    using F = decltype(format);
    forPanels(out, panelWidth(out, s.cols), x, coded, s, [&](const Panel& p, long, long block, long c) {
      float* scales = out.scales.f32() + block * scaleCols + c / out.blockCols;
      if (out.blockCols == 1) return quantizeColumns<F>(p, scales, s.scaling);
      quantizeBlock<F>(p, scales, s.scaling);
    });
  });
}

void quantize(Args args) {
  const Operand out = args.operand();
  const View x = args.view();
  const Sizes s = sizesOf(args);
  if (out.values.dtype == DType::e5m6)
    return quantizeE5m6(out, x.f32(), s.rows * s.stack, s.cols, s.scaling);
  quantizeMatrix(out, x.f32(), nullptr, s);
}

void quantizeBoth(Args args) {
  const Operand rowwise = args.operand();
  const Operand columnwise = args.operand();
  const View x = args.view();
  const Sizes s = sizesOf(args);
  const long tiles = ceilDiv(s.cols, tile);
  withFormat(rowwise.values.dtype, [&](auto format) {
    forPanels(columnwise, tile, x.f32(), nullptr, s, [&](const Panel& p, long row, long block, long c) {
      quantizeBothWays<decltype(format)>(p, rowwise.values.codes() + row * s.cols + c,
                                         rowwise.scales.f32() + row * tiles + c / tile, tiles,
                                         columnwise.scales.f32() + block * s.cols + c, s.scaling);
    });
  });
}

void requantize(Args args) {
  const Operand out = args.operand();
  const Operand x = args.operand();
  quantizeMatrix(out, nullptr, &x, sizesOf(args));
}

void dequantize(Args args) {
  const View out = args.view();
  const Operand x = args.operand();
  const long rows = args.integer();
  const long cols = args.integer();
  if (x.values.dtype == DType::e5m6)
    return out.dtype == DType::bf16 ? dequantizeE5m6(out.bf16(), x, rows, cols)
                                    : dequantizeE5m6(out.f32(), x, rows, cols);
  const bool low = out.dtype == DType::bf16;
  // Blocks begin at whole vectors then, too.
  const bool past = !low && (x.blockCols == 1 || x.blockCols % W == 0) && goesPast(out.f32(), rows, cols);
  withFormat(x.values.dtype, [&](auto format) {
    using F = decltype(format);
    parallelRanges(rows, rowGrain(cols), 1, [&](long begin, long end) {
      for (long r = begin; r < end; r += 1)
        if (low)
          decodeRow<F>(out.bf16() + r * cols, x, cols, r, 0, cols);
        else if (past)
          decodeRow<F>(out.f32() + r * cols, x, cols, r, 0, cols, Past{});
        else
          decodeRow<F>(out.f32() + r * cols, x, cols, r, 0, cols);
      if (past) drain();
    });
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
