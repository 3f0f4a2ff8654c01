// Single blocks and panels of blocks for kernels/quantize.cc: decoding them, finding their scales, encoding them.
//
// What makes a block of numbers slow is waiting: for its maximum, for its scale. So scales of many blocks are made at
// once, and where every column is a block of its own (128×1), eight vectors of columns stay in registers over all rows.
// Blocks that hold a NaN or an infinity are set aside: they alone need a division that minds them.
#pragma once
#include "elements.h"
#include "fp8.h"

namespace baleen {
namespace BALEEN_ISA {

/** Smallest amax a scale is made from, as in V3's published inference code. */
static constexpr float amaxFloor = 1e-4f;

/** Columns of a 1×128 block, and of a panel that is read both ways. */
static constexpr long tile = 128;
/** Blocks whose scales are made together. */
static constexpr long batch = 32;

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
  for (; c + 4 * W <= count; c += 4 * W) {
    vf values[4];
    loadE4m3Four(codes + c, values);
    for (int v = 0; v < 4; v += 1)
      whole.store(out + c + v * W, mul(values[v], scaleAt(whole, c + v * W)));
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

/** Brings the lines of `size` numbers into the second-level cache. */
static inline void fetch(const float* x, long size) {
  for (long c = 0; c < size; c += 16) __builtin_prefetch(x + c, 0, 2);
}

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
  /** The numbers of the panel after it, to be fetched while this one is encoded; null if everything is near. */
  const float* next;

  const float* row(long r) const { return x + r * xStride; }
  uint8_t* codesOf(long r) const { return codes + r * codesStride; }
  Panel from(long c) const {
    Panel p = *this;
    p.x += c;
    p.codes += c;
    if (p.next != nullptr) p.next += c;
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

/** Four vectors by four divisors. */
static inline void encodeFour(uint8_t* codes, const float* x, const Divisor* by) {
  const vf values[4] = {load(x), load(x + W), load(x + 2 * W), load(x + 3 * W)};
  storeE4m3Four(codes, values, by);
}

static inline void encodeRun(uint8_t* codes, const float* x, long size, const Divisor& by) {
  const Divisor four[4] = {by, by, by, by};
  long c0 = 0;
  for (; c0 + 4 * W <= size; c0 += 4 * W) encodeFour(codes + c0, x + c0, four);
  forRange(c0, size, [&](auto at, long c) {
    at.storeCodes(codes + c, quotientToE4m3(at.load(x + c), by));
  });
}

/** The same; a whole tile's loop is one that the compiler knows. */
static inline void encodeBlock(uint8_t* codes, const float* x, long size, const Divisor& by) {
  if (size == tile)
    encodeRun(codes, x, tile, by);
  else
    encodeRun(codes, x, size, by);
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
    if (p.next != nullptr) fetch(p.next + r * p.xStride, p.cols);
    encodeBlock(p.codesOf(r), p.row(r), p.cols, by);
  }
}

/** Numbers of one block that lie in a row. */
struct Run {
  const float* x;
  uint8_t* codes;
  long size;
};

/** Blocks of one run each, at most `batch`, whose scales follow one another. */
static void quantizeRuns(const Run* runs, long count, float* scalesOut, bool powerOfTwo,
                         bool fetchAhead = false) {
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
      quantizeWild({runs[i].x, 0, runs[i].codes, 0, 1, runs[i].size, nullptr}, scalesOut + i,
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
    if (fetchAhead) fetch(runs[i].x + batch * tile, runs[i].size);
    encodeBlock(runs[i].codes, runs[i].x, runs[i].size, by);
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

/** `V` vectors by as many divisors: whole ones in fours, the single ones beside them as `at` has it. */
template <int V, class At>
static inline void encodeVectors(At at, uint8_t* codes, const float* x, const Divisor* by) {
  if constexpr (V % 4 == 0)
    for (int v = 0; v < V; v += 4) encodeFour(codes + v * W, x + v * W, by + v);
  else
    for (int v = 0; v < V; v += 1)
      at.storeCodes(codes + v * W, quotientToE4m3(at.load(x + v * W), by[v]));
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
    if (p.next != nullptr) fetch(p.next + r * p.xStride, V * W);
    encodeVectors<V>(at, codes, x, by);
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
      Divisor byRow[V];
      for (int v = 0; v < V; v += 1) byRow[v] = {set1(rows.scales[r]), set1(rows.inverses[r])};
      const float* x = p.row(r) + c;
      uint8_t* inRows = rowCodes + r * p.codesStride + c;
      uint8_t* inColumns = p.codesOf(r) + c;
      if (p.next != nullptr) fetch(p.next + r * p.xStride + c, V * W);
      encodeVectors<V>(at, inRows, x, byRow);
      encodeVectors<V>(at, inColumns, x, by);
    }
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
