// FP8 quantisation in blocks with online scales (§3.3.2), to the bit as src/reference/quantize.ts: divisions are true
// divisions, maxima pass over NaN, every rounding is to nearest even.
//
// Work is cut into panels: a row of blocks by the columns of one block, or, where every column is a block of its own
// (128×1), by as many columns as stay in the second-level cache between finding maxima and encoding.
#include "../elements.h"
#include "../fp8.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

// Columns of a panel of 128×1 blocks: 128 rows of them are 128 KB of FP32, read in runs of 1 KB.
static constexpr long panelOfColumns = 256;

/** Smallest amax a scale is made from, as in V3's published inference code. */
static constexpr float amaxFloor = 1e-4f;

/** Scales of W blocks: fl(max(amax, 1e-4) / 448), or the powers of two at or above that. */
static inline vf scalesOf(vf amax, bool powerOfTwo) {
  const vf scale = div(max(amax, set1(amaxFloor)), set1(448.0f));
  if (!powerOfTwo) return scale;
  // Any mantissa bit carries into the exponent, and then none is left.
  return asFloat(andi(addi(asInt(scale), set1i(0x7fffff)), set1i(0x7f800000)));
}

/** |x| where it is larger, else `top`; a NaN never is. */
static inline vf larger(vf x, vf top) { return max(abs(x), top); }

/** Columns [begin, end) of row `row` of a scaled matrix, fl(value · scale) each, into out[0 …] (FP32 or BF16). */
template <class To>
static void decodeRow(To* out, const Operand& x, long cols, long row, long begin, long end) {
  const uint8_t* codes = x.values.e4m3() + row * cols;
  const float* scales = x.scales.f32() + row / x.blockRows * ceilDiv(cols, x.blockCols);
  if (x.blockCols == 1) {
    forRange(begin, end, [&](auto at, long c) {
      at.store(out + (c - begin), mul(fromE4m3(at.loadCodes(codes + c)), at.load(scales + c)));
    });
    return;
  }
  long c0 = begin;
  for (long block = begin / x.blockCols; c0 < end; block += 1) {
    const long c1 = minOf(end, (block + 1) * x.blockCols);
    const vf scale = set1(scales[block]);
    forRange(c0, c1, [&](auto at, long c) {
      at.store(out + (c - begin), mul(fromE4m3(at.loadCodes(codes + c)), scale));
    });
    c0 = c1;
  }
}

/** A rectangle of a matrix and where its codes go; `cols` elements lie between rows of the whole. */
struct Panel {
  /** FP32 values, or the scaled matrix that they are decoded from, row by row into `decoded`, when maxima are sought. */
  const float* x;
  const Operand* coded;
  float* decoded;
  uint8_t* codes;
  long matrixCols;
  long firstRow, rows;
  long firstCol, cols;

  /** Row r of the panel, on first reading. */
  const float* read(long r) const {
    if (coded == nullptr) return again(r);
    float* row = decoded + r * cols;
    decodeRow(row, *coded, matrixCols, firstRow + r, firstCol, firstCol + cols);
    return row;
  }
  /** Row r after that. */
  const float* again(long r) const {
    return coded != nullptr ? decoded + r * cols : x + (firstRow + r) * matrixCols + firstCol;
  }
  uint8_t* codesOf(long r) const { return codes + (firstRow + r) * matrixCols + firstCol; }
};

/** One block, one scale. */
static void quantizeBlock(const Panel& p, float* scaleOut, bool powerOfTwo) {
  vf top0 = set1(0), top1 = set1(0);
  for (long r = 0; r < p.rows; r += 1) {
    const float* x = p.read(r);
    long c = 0;
    for (; c + 2 * W <= p.cols; c += 2 * W) {
      top0 = larger(load(x + c), top0);
      top1 = larger(load(x + c + W), top1);
    }
    for (; c + W <= p.cols; c += W) top0 = larger(load(x + c), top0);
    if (c < p.cols) top1 = larger(loadPartial(x + c, p.cols - c), top1);
  }
  const vf scale = scalesOf(set1(maxOfVector(max(top0, top1))), powerOfTwo);
  storePartial(scaleOut, scale, 1);
  for (long r = 0; r < p.rows; r += 1) {
    const float* x = p.again(r);
    uint8_t* codes = p.codesOf(r);
    forRange(0, p.cols,
             [&](auto at, long c) { at.storeCodes(codes + c, toE4m3(div(at.load(x + c), scale))); });
  }
}

/** The panel's rows in blocks of 1×128, into another operand; its columns begin where a block does. */
static void quantizeRows(Panel p, const Operand& out, bool powerOfTwo) {
  const long last = p.firstCol + p.cols;
  const long scaleCols = ceilDiv(p.matrixCols, 128);
  const long rows = p.rows;
  p.codes = out.values.e4m3();
  p.rows = 1;
  for (long r = 0; r < rows; r += 1, p.firstRow += 1)
    for (long c = p.firstCol; c < last; c += 128) {
      Panel block = p;
      block.firstCol = c;
      block.cols = minOf(128, last - c);
      quantizeBlock(block, out.scales.f32() + p.firstRow * scaleCols + c / 128, powerOfTwo);
    }
}

/** One block a column, at most `panelOfColumns` of them; rows are read in order, the maxima of all columns kept. */
static void quantizeColumns(const Panel& p, float* scales, bool powerOfTwo) {
  alignas(64) float top[panelOfColumns];
  forRange(0, p.cols, [&](auto at, long c) { at.store(top + c, set1(0)); });
  for (long r = 0; r < p.rows; r += 1) {
    const float* x = p.read(r);
    forRange(0, p.cols,
             [&](auto at, long c) { at.store(top + c, larger(at.load(x + c), at.load(top + c))); });
  }
  forRange(0, p.cols, [&](auto at, long c) {
    const vf scale = scalesOf(at.load(top + c), powerOfTwo);
    at.store(top + c, scale);
    at.store(scales + c, scale);
  });
  for (long r = 0; r < p.rows; r += 1) {
    const float* x = p.again(r);
    uint8_t* codes = p.codesOf(r);
    forRange(0, p.cols, [&](auto at, long c) {
      at.storeCodes(codes + c, toE4m3(div(at.load(x + c), at.load(top + c))));
    });
  }
}

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
  bool powerOfTwo;
  View offsets;
  long groups;
  long stack;
};

static Sizes sizesOf(Args& args) {
  Sizes s;
  s.rows = args.integer();
  s.cols = args.integer();
  s.powerOfTwo = args.flag();
  s.offsets = args.view();
  s.groups = args.integer();
  s.stack = maxOf(1, args.integer());
  return s;
}

/**
 * Quantises `plain`, or what `coded` stands for: one of them is null. With `rowwise`, 1×128 codes of the same panel are
 * made while it is in the cache; `out` is 128×1 then.
 */
static void quantizeMatrix(const Operand& out, const float* plain, const Operand* coded,
                           const Sizes& s, const Operand* rowwise = nullptr) {
  Blocks blocks = {};
  blocks.borders = s.offsets ? s.offsets.i32() : nullptr;
  blocks.height = s.rows;
  blocks.groups = s.offsets ? s.groups : s.stack;
  blocks.blockRows = out.blockRows;
  const bool byColumn = out.blockCols == 1;
  const long width = byColumn ? minOf(panelOfColumns, maxOf(1, s.cols)) : out.blockCols;
  const long panels = ceilDiv(s.cols, width);
  const long scaleCols = ceilDiv(s.cols, out.blockCols);
  const long count = blocks.count();
  const long height = minOf(out.blockRows, s.rows);
  const long panelSize = maxOf(1, height * minOf(width, s.cols));
  parallelRanges(count * panels, maxOf(1, 16384 / panelSize), 1, [&](long begin, long end) {
    Blocks at = blocks;
    at.seek(begin / panels);
    long block = begin / panels;
    long panel = begin % panels;
    Panel p = {};
    p.x = plain;
    p.coded = coded;
    p.codes = out.values.e4m3();
    p.matrixCols = s.cols;
    if (coded != nullptr)
      p.decoded = static_cast<float*>(
          scratch(Scratch::first, static_cast<size_t>(panelSize) * sizeof(float)));
    for (long i = begin; i < end; i += 1) {
      p.firstRow = at.first;
      p.rows = at.last - at.first;
      p.firstCol = panel * width;
      p.cols = minOf(width, s.cols - p.firstCol);
      float* scales = out.scales.f32() + block * scaleCols + p.firstCol / out.blockCols;
      if (rowwise != nullptr) quantizeRows(p, *rowwise, s.powerOfTwo);
      if (byColumn)
        quantizeColumns(p, scales, s.powerOfTwo);
      else
        quantizeBlock(p, scales, s.powerOfTwo);
      panel += 1;
      if (panel == panels) {
        panel = 0;
        block += 1;
        at.advance();
      }
    }
  });
}

void quantize(Args args) {
  const Operand out = args.operand();
  const View x = args.view();
  quantizeMatrix(out, x.f32(), nullptr, sizesOf(args));
}

void quantizeBoth(Args args) {
  const Operand rowwise = args.operand();
  const Operand columnwise = args.operand();
  const View x = args.view();
  quantizeMatrix(columnwise, x.f32(), nullptr, sizesOf(args), &rowwise);
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
  parallelRanges(rows, rowGrain(cols), 1, [&](long begin, long end) {
    for (long r = begin; r < end; r += 1)
      if (out.dtype == DType::bf16)
        decodeRow(out.bf16() + r * cols, x, cols, r, 0, cols);
      else
        decodeRow(out.f32() + r * cols, x, cols, r, 0, cols);
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
