// FP8 quantisation in blocks with online scales (§3.3.2), to the bit as src/reference/quantize.ts: quotients are those of
// true divisions, maxima pass over NaN, every rounding is to nearest even.
//
// What makes a block of numbers slow is waiting: for its maximum, for its scale. So scales of sixteen blocks are made at
// once, and where every column is a block of its own (128×1), eight vectors of columns stay in registers over all rows.
// Blocks that hold a NaN or an infinity are set aside: they alone need a division that minds them.
#include "../elements.h"
#include "../fp8.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

/** Smallest amax a scale is made from, as in V3's published inference code. */
static constexpr float amaxFloor = 1e-4f;

/** Columns of a 1×128 block, and of a panel that is read both ways. */
static constexpr long tile = 128;
/** Blocks whose scales are made together; rows of a panel at most, unless a block is higher. */
static constexpr long batch = 16;

/** Scales of W blocks: fl(max(amax, 1e-4) / 448), or the powers of two at or above that. */
static inline vf scalesOf(vf amax, bool powerOfTwo) {
  const vf scale = div(max(amax, set1(amaxFloor)), set1(448.0f));
  if (!powerOfTwo) return scale;
  // Any mantissa bit carries into the exponent, and then none is left.
  return asFloat(andi(addi(asInt(scale), set1i(0x7fffff)), set1i(0x7f800000)));
}

static inline Divisor divisorOf(vf scale) { return {scale, div(set1(1.0f), scale)}; }

// — decoding —

/** `count` codes times their scales, fl(value · scale) each: one scale, or one a column. */
template <class To, class ScaleAt>
static inline void decodeRun(To* out, const uint8_t* codes, long count, ScaleAt&& scaleAt) {
  const Whole whole;
  long c = 0;
  for (; c + 2 * W <= count; c += 2 * W) {
    vf first, second;
    loadE4m3Twice(codes + c, first, second);
    whole.store(out + c, mul(first, scaleAt(whole, c)));
    whole.store(out + c + W, mul(second, scaleAt(whole, c + W)));
  }
  forRange(c, count, [&](auto at, long i) {
    at.store(out + i, mul(fromE4m3(at.loadCodes(codes + i)), scaleAt(at, i)));
  });
}

/** Numbers of one block; a whole one's loop is one that the compiler knows. */
template <class To>
static inline void decodeBlock(To* out, const uint8_t* codes, long count, float scale) {
  const vf factor = set1(scale);
  const auto scaleAt = [&](auto, long) { return factor; };
  if (count == tile)
    decodeRun(out, codes, tile, scaleAt);
  else
    decodeRun(out, codes, count, scaleAt);
}

/** Columns [begin, end) of row `row` of a scaled matrix into out[0 …] (FP32 or BF16). */
template <class To>
static void decodeRow(To* out, const Operand& x, long cols, long row, long begin, long end) {
  const uint8_t* codes = x.values.e4m3() + row * cols;
  const long scaleCols = x.blockCols == 1 ? cols : ceilDiv(cols, x.blockCols);
  const float* scales = x.scales.f32() + (x.blockRows == 1 ? row : row / x.blockRows) * scaleCols;
  if (x.blockCols == 1) {
    decodeRun(out, codes + begin, end - begin,
              [&](auto at, long c) { return at.load(scales + begin + c); });
    return;
  }
  long c0 = begin;
  for (long block = begin / x.blockCols; c0 < end; block += 1) {
    const long c1 = minOf(end, (block + 1) * x.blockCols);
    decodeBlock(out + (c0 - begin), codes + c0, c1 - c0, scales[block]);
    c0 = c1;
  }
}

static inline void fetch(const void* p) { __builtin_prefetch(p, 0, 2); }

/** Rows [first, first + rows) and columns [begin, begin + cols), one row after another. */
static void decodePanel(float* out, const Operand& x, long matrixCols, long first, long rows,
                        long begin, long cols) {
  if (x.blockRows != 1 || x.blockCols != tile || begin / tile != (begin + cols - 1) / tile) {
    for (long r = 0; r < rows; r += 1)
      decodeRow(out + r * cols, x, matrixCols, first + r, begin, begin + cols);
    return;
  }
  const long scaleCols = ceilDiv(matrixCols, tile);
  const uint8_t* codes = x.values.e4m3() + first * matrixCols + begin;
  const float* scales = x.scales.f32() + first * scaleCols + begin / tile;
  for (long r = 0; r < rows; r += 1) {
    decodeBlock(out + r * cols, codes + r * matrixCols, cols, scales[r * scaleCols]);
  }
}

/** A rectangle of a matrix: where its numbers are and where its codes go, with the distances between rows. */
struct Panel {
  const float* x;
  long xStride;
  uint8_t* codes;
  long codesStride;
  long rows, cols;
  /** Fetch what stands beside it while it is encoded. */
  bool fetchAhead;

  const float* row(long r) const { return x + r * xStride; }
  uint8_t* codesOf(long r) const { return codes + r * codesStride; }
  Panel from(long c) const {
    Panel p = *this;
    p.x += c;
    p.codes += c;
    return p;
  }
};

// — one scale a block —

/** The highest magnitudes of `size` numbers, lane by lane. */
static inline vi topOf(const float* x, long size) {
  vi top0 = set1i(0), top1 = set1i(0);
  long c = 0;
  for (; c + 2 * W <= size; c += 2 * W) {
    top0 = higher(magnitudeOf(load(x + c)), top0);
    top1 = higher(magnitudeOf(load(x + c + W)), top1);
  }
  forRange(c, size, [&](auto at, long i) { top0 = higher(magnitudeOf(at.load(x + i)), top0); });
  return higher(top0, top1);
}

static inline void encodeRun(uint8_t* codes, const float* x, long size, const Divisor& by) {
  forRange(0, size, [&](auto at, long c) {
    at.storeCodes(codes + c, quotientToE4m3(at.load(x + c), by));
  });
}

/** A block with NaN or infinities: a NaN is never the largest, and quotients may be anything. */
static void quantizeWild(const Panel& p, float* scaleOut, bool powerOfTwo) {
  vf top = set1(0);
  for (long r = 0; r < p.rows; r += 1)
    forRange(0, p.cols, [&](auto at, long c) { top = max(abs(at.load(p.row(r) + c)), top); });
  const vf scale = scalesOf(set1(maxOfVector(top)), powerOfTwo);
  storePartial(scaleOut, scale, 1);
  for (long r = 0; r < p.rows; r += 1)
    forRange(0, p.cols, [&](auto at, long c) {
      at.storeCodes(p.codesOf(r) + c, toE4m3(div(at.load(p.row(r) + c), scale)));
    });
}

static void quantizeBlock(const Panel& p, float* scaleOut, bool powerOfTwo) {
  vi top = set1i(0);
  for (long r = 0; r < p.rows; r += 1) top = higher(topOf(p.row(r), p.cols), top);
  if (anyAbove(top, set1i(largestFinite))) return quantizeWild(p, scaleOut, powerOfTwo);
  const Divisor by = divisorOf(scalesOf(set1(maxOfVector(asFloat(top))), powerOfTwo));
  storePartial(scaleOut, by.scale, 1);
  for (long r = 0; r < p.rows; r += 1) {
    if (p.fetchAhead)
      for (long c = 0; c < p.cols; c += 16) fetch(p.row(r) + p.cols + c);
    encodeRun(p.codesOf(r), p.row(r), p.cols, by);
  }
}

/** Numbers of one block that lie in a row. */
struct Run {
  const float* x;
  uint8_t* codes;
  long size;
};

/** Blocks of one run each, at most `batch`, whose scales follow one another. */
static void quantizeRuns(const Run* runs, long count, float* scalesOut, bool powerOfTwo) {
  alignas(64) float scales[batch] = {};
  alignas(64) float inverses[batch];
  vi all = set1i(0);
  for (long i = 0; i < count; i += 1) {
    const vi top = runs[i].size == tile ? topOf(runs[i].x, tile) : topOf(runs[i].x, runs[i].size);
    scales[i] = maxOfVector(asFloat(top));
    all = higher(all, top);
  }
  if (anyAbove(all, set1i(largestFinite))) {
    for (long i = 0; i < count; i += 1)
      quantizeWild({runs[i].x, 0, runs[i].codes, 0, 1, runs[i].size, false}, scalesOut + i,
                   powerOfTwo);
    return;
  }
  forRange(0, batch, [&](auto at, long i) {
    const Divisor by = divisorOf(scalesOf(at.load(scales + i), powerOfTwo));
    at.store(scales + i, by.scale);
    at.store(inverses + i, by.inverse);
  });
  forRange(0, count, [&](auto at, long i) { at.store(scalesOut + i, at.load(scales + i)); });
  for (long i = 0; i < count; i += 1) {
    const Divisor by = {set1(scales[i]), set1(inverses[i])};
    if (runs[i].size == tile)
      encodeRun(runs[i].codes, runs[i].x, tile, by);
    else
      encodeRun(runs[i].codes, runs[i].x, runs[i].size, by);
  }
}

// — one scale a column of a block —

/** `V` vectors of columns whose last one is read by `at`: their highest magnitudes over all rows. */
template <int V, class At>
static inline void columnTops(At at, const Panel& p, vi* top) {
  for (int v = 0; v < V; v += 1) top[v] = set1i(0);
  const float* x = p.x;
  for (long r = 0; r < p.rows; r += 1, x += p.xStride) {
    for (int v = 0; v < V; v += 1) top[v] = higher(magnitudeOf(at.load(x + v * W)), top[v]);
  }
}

/** The same columns where one of them holds NaN or infinities. */
template <int V, class At>
static void quantizeWildColumns(At at, const Panel& p, float* scales, bool powerOfTwo) {
  for (int v = 0; v < V; v += 1) {
    vf top = set1(0);
    for (long r = 0; r < p.rows; r += 1) top = max(abs(at.load(p.row(r) + v * W)), top);
    const vf scale = scalesOf(top, powerOfTwo);
    at.store(scales + v * W, scale);
    for (long r = 0; r < p.rows; r += 1)
      at.storeCodes(p.codesOf(r) + v * W,
                    toE4m3(div(at.load(p.row(r) + v * W), scale)));
  }
}

/** Scales of V vectors of columns; false where they are not finite, and then all is done. */
template <int V, class At>
static inline bool divisorsOf(At at, const Panel& p, const vi* top, Divisor* by, float* scales,
                              bool powerOfTwo) {
  vi all = top[0];
  for (int v = 1; v < V; v += 1) all = higher(all, top[v]);
  if (anyAbove(all, set1i(largestFinite))) {
    quantizeWildColumns<V>(at, p, scales, powerOfTwo);
    return false;
  }
  for (int v = 0; v < V; v += 1) {
    by[v] = divisorOf(scalesOf(asFloat(top[v]), powerOfTwo));
    at.store(scales + v * W, by[v].scale);
  }
  return true;
}

template <int V, class At>
static void quantizeColumnVectors(At at, const Panel& p, float* scales, bool powerOfTwo) {
  vi top[V];
  Divisor by[V];
  columnTops<V>(at, p, top);
  if (!divisorsOf<V>(at, p, top, by, scales, powerOfTwo)) return;
  const float* x = p.x;
  uint8_t* codes = p.codes;
  for (long r = 0; r < p.rows; r += 1, x += p.xStride, codes += p.codesStride) {
    if (p.fetchAhead)
      for (int v = 0; v < V * W / 16; v += 1) fetch(x + tile + v * 16);
    for (int v = 0; v < V; v += 1)
      at.storeCodes(codes + v * W, quotientToE4m3(at.load(x + v * W), by[v]));
  }
}

template <int N>
struct Vectors {
  static constexpr int count = N;
};

/** Calls `body(Vectors<N>, at, c)` for as many vectors of columns at a time as stay in registers. */
template <class Body>
static inline void forColumns(long cols, Body&& body) {
  long c = 0;
  for (; c + 8 * W <= cols; c += 8 * W) body(Vectors<8>{}, Whole{}, c);
  if (c + 4 * W <= cols) {
    body(Vectors<4>{}, Whole{}, c);
    c += 4 * W;
  }
  for (; c + W <= cols; c += W) body(Vectors<1>{}, Whole{}, c);
  if (c < cols) body(Vectors<1>{}, Part{cols - c}, c);
}

/** One block a column. */
static void quantizeColumns(const Panel& p, float* scales, bool powerOfTwo) {
  forColumns(p.cols, [&](auto vectors, auto at, long c) {
    quantizeColumnVectors<decltype(vectors)::count>(at, p.from(c), scales + c, powerOfTwo);
  });
}

// — both —

/** Scales of a panel's rows or columns. */
struct Scales {
  alignas(64) float scales[tile] = {};
  alignas(64) float inverses[tile];

  void make(long count, bool powerOfTwo) {
    forRange(0, count, [&](auto at, long i) {
      const Divisor by = divisorOf(scalesOf(at.load(scales + i), powerOfTwo));
      at.store(scales + i, by.scale);
      at.store(inverses + i, by.inverse);
    });
  }
};

/** A panel of at most 128 × 128 in both ways: `rowCodes` go with `rowScales`, the panel's own with `columnScales`. */
static void quantizeBothWays(const Panel& p, uint8_t* rowCodes, float* rowScales,
                             long rowScalesStride, float* columnScales, bool powerOfTwo) {
  vi rowTops[tile];
  Scales rows, columns;
  vi all = set1i(0);
  for (long r = 0; r < p.rows; r += 1) rowTops[r] = set1i(0);
  forColumns(p.cols, [&](auto vectors, auto at, long c) {
    constexpr int V = decltype(vectors)::count;
    vi top[V];
    for (int v = 0; v < V; v += 1) top[v] = set1i(0);
    for (long r = 0; r < p.rows; r += 1) {
      vi highest = rowTops[r];
      for (int v = 0; v < V; v += 1) {
        const vi magnitude = magnitudeOf(at.load(p.row(r) + c + v * W));
        top[v] = higher(magnitude, top[v]);
        highest = higher(magnitude, highest);
      }
      rowTops[r] = highest;
    }
    for (int v = 0; v < V; v += 1) {
      all = higher(all, top[v]);
      at.store(columns.scales + c + v * W, asFloat(top[v]));
    }
  });
  if (anyAbove(all, set1i(largestFinite))) {
    quantizeColumns(p, columnScales, powerOfTwo);
    for (long r = 0; r < p.rows; r += 1) {
      const Run run = {p.row(r), rowCodes + r * p.codesStride, p.cols};
      quantizeRuns(&run, 1, rowScales + r * rowScalesStride, powerOfTwo);
    }
    return;
  }
  for (long r = 0; r < p.rows; r += 1) rows.scales[r] = maxOfVector(asFloat(rowTops[r]));
  rows.make(p.rows, powerOfTwo);
  columns.make(p.cols, powerOfTwo);
  for (long r = 0; r < p.rows; r += 1) rowScales[r * rowScalesStride] = rows.scales[r];
  forRange(0, p.cols, [&](auto at, long c) { at.store(columnScales + c, at.load(columns.scales + c)); });
  forColumns(p.cols, [&](auto vectors, auto at, long c) {
    constexpr int V = decltype(vectors)::count;
    Divisor by[V];
    for (int v = 0; v < V; v += 1)
      by[v] = {at.load(columns.scales + c + v * W), at.load(columns.inverses + c + v * W)};
    for (long r = 0; r < p.rows; r += 1) {
      const Divisor byRow = {set1(rows.scales[r]), set1(rows.inverses[r])};
      const float* x = p.row(r) + c;
      uint8_t* inRows = rowCodes + r * p.codesStride + c;
      uint8_t* inColumns = p.codesOf(r) + c;
      if (p.fetchAhead)
        for (int v = 0; v < V * W / 16; v += 1) fetch(x + tile + v * 16);
      for (int v = 0; v < V; v += 1) {
        const vf value = at.load(x + v * W);
        at.storeCodes(inRows + v * W, quotientToE4m3(value, byRow));
        at.storeCodes(inColumns + v * W, quotientToE4m3(value, by[v]));
      }
    }
  });
}

// — whole matrices —

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

/** Columns of a panel of 128×1 blocks: what is decoded of 128 rows fits the first-level cache. */
static long panelWidth(const Operand& out, long cols, bool decoded) {
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
  const bool large = s.stack * s.rows * s.cols > (1 << 18);
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
      p.codes = out.values.e4m3() + at.first * s.cols + c;
      p.codesStride = s.cols;
      p.x = x + at.first * s.cols + c;
      p.xStride = s.cols;
      p.fetchAhead = large;
      if (coded != nullptr) {
        p.x = decoded;
        p.xStride = p.cols;
        p.fetchAhead = false;
        decodePanel(decoded, *coded, s.cols, at.first, p.rows, c, p.cols);
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

/** Rows of blocks one row high, plain: block after block as they lie. */
static void quantizeRows(const Operand& out, const float* x, const Sizes& s) {
  const long blocks = ceilDiv(s.cols, out.blockCols);
  parallelRanges(s.rows * s.stack, rowGrain(s.cols), 1, [&](long begin, long end) {
    Run runs[batch];
    long count = 0;
    float* scales = out.scales.f32() + begin * blocks;
    for (long r = begin; r < end; r += 1)
      for (long c = 0; c < s.cols; c += out.blockCols) {
        const long at = r * s.cols + c;
        runs[count++] = {x + at, out.values.e4m3() + at, minOf(out.blockCols, s.cols - c)};
        if (count < batch) continue;
        quantizeRuns(runs, count, scales, s.powerOfTwo);
        scales += count;
        count = 0;
      }
    quantizeRuns(runs, count, scales, s.powerOfTwo);
  });
}

/** Quantises `x`, or what `coded` stands for: one of them is null. */
static void quantizeMatrix(const Operand& out, const float* x, const Operand* coded,
                           const Sizes& s) {
  if (out.blockRows == 1 && coded == nullptr) return quantizeRows(out, x, s);
  const long scaleCols = ceilDiv(s.cols, out.blockCols);
  forPanels(out, panelWidth(out, s.cols, coded != nullptr), x, coded, s,
            [&](const Panel& p, long, long block, long c) {
              float* scales = out.scales.f32() + block * scaleCols + c / out.blockCols;
              if (out.blockCols == 1) return quantizeColumns(p, scales, s.powerOfTwo);
              quantizeBlock(p, scales, s.powerOfTwo);
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
  const Sizes s = sizesOf(args);
  const long tiles = ceilDiv(s.cols, tile);
  forPanels(columnwise, tile, x.f32(), nullptr, s, [&](const Panel& p, long row, long block, long c) {
    quantizeBothWays(p, rowwise.values.e4m3() + row * s.cols + c,
                     rowwise.scales.f32() + row * tiles + c / tile, tiles,
                     columnwise.scales.f32() + block * s.cols + c, s.powerOfTwo);
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
