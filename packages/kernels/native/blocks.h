// Single blocks and panels of blocks for kernels/quantize.cc: finding their scales, encoding them.
//
// What makes a block of numbers slow is waiting: for memory, for its maximum, for its scale. So scales of many blocks are
// made at once; panels are passed over in vectors of columns, eight of which stay in registers over all rows; and both
// passes, the one for the maxima and the one that encodes, ask for a part of what comes next.
// Blocks that hold a NaN or an infinity are set aside: they alone need a division that minds them.
#pragma once
#include "decode.h"
#include "kernels/encode.h"

namespace baleen {
namespace BALEEN_ISA {

/** Blocks whose scales are made together. */
static constexpr long batch = 32;

/** Scales of W blocks: fl(max(amax, floor) / the format's largest value), or the powers of two at or above that. */
template <class F>
static inline vf scalesOf(vf amax, const Scaling& by) {
  const vf scale = div(max(amax, set1(by.amaxFloor)), set1(F::largest));
  if (!by.powerOfTwo) return scale;
  // Any mantissa bit carries into the exponent, and then none is left.
  return asFloat(andi(addi(asInt(scale), set1i(0x7fffff)), set1i(0x7f800000)));
}

static inline Divisor divisorOf(vf scale) { return {scale, div(set1(1.0f), scale)}; }

/** Brings the lines of `size` numbers into the second-level cache. */
static inline void fetch(const float* x, long size) {
  for (long c = 0; c < size; c += 16) __builtin_prefetch(x + c, 0, 2);
}
/** The pass for the maxima asks for a quarter of a row, the one that encodes, which takes longer, for the rest. */
static inline void fetchQuarter(const float* x, long size) { fetch(x, size / 4); }
static inline void fetchRest(const float* x, long size) { fetch(x + size / 4, size - size / 4); }

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
template <class F>
static inline void encodeFour(uint8_t* codes, const float* x, const Divisor* by) {
  const vf values[4] = {load(x), load(x + W), load(x + 2 * W), load(x + 3 * W)};
  storeFour<F>(codes, values, by);
}

template <class F>
static inline void encodeRun(uint8_t* codes, const float* x, long size, const Divisor& by) {
  const Divisor four[4] = {by, by, by, by};
  long c0 = 0;
  for (; c0 + 4 * W <= size; c0 += 4 * W) encodeFour<F>(codes + c0, x + c0, four);
  forRange(c0, size, [&](auto at, long c) {
    at.storeCodes(codes + c, quotientToCode<F>(at.load(x + c), by));
  });
}

/** The same; a whole tile's loop is one that the compiler knows. */
template <class F>
static inline void encodeBlock(uint8_t* codes, const float* x, long size, const Divisor& by) {
  if (size == tile)
    encodeRun<F>(codes, x, tile, by);
  else
    encodeRun<F>(codes, x, size, by);
}

/** A block with NaN or infinities: a NaN is never the largest, and quotients may be anything. */
template <class F>
static void quantizeWild(const Panel& p, float* scaleOut, const Scaling& scaling) {
  vf top = set1(0);
  for (long r = 0; r < p.rows; r += 1)
    forRange(0, p.cols, [&](auto at, long c) { top = max(abs(at.load(p.row(r) + c)), top); });
  const vf scale = scalesOf<F>(set1(maxOfVector(top)), scaling);
  storePartial(scaleOut, scale, 1);
  for (long r = 0; r < p.rows; r += 1)
    forRange(0, p.cols, [&](auto at, long c) {
      at.storeCodes(p.codesOf(r) + c, toCodes<F>(div(at.load(p.row(r) + c), scale)));
    });
}

/** Numbers of one block that lie in a row. */
struct Run {
  const float* x;
  uint8_t* codes;
  long size;
};

/** Blocks of one run each, at most `batch`, whose scales follow one another. */
template <class F>
static void quantizeRuns(const Run* runs, long count, float* scalesOut, const Scaling& scaling,
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
      quantizeWild<F>({runs[i].x, 0, runs[i].codes, 0, 1, runs[i].size, nullptr}, scalesOut + i,
                      scaling);
    return;
  }
  forRange(0, batch, [&](auto at, long i) {
    const Divisor by = divisorOf(scalesOf<F>(at.load(scales + i), scaling));
    at.store(scales + i, by.scale);
    at.store(inverses + i, by.inverse);
  });
  forRange(0, count, [&](auto at, long i) { at.store(scalesOut + i, at.load(scales + i)); });
  for (long i = 0; i < count; i += 1) {
    const Divisor by = {set1(scales[i]), set1(inverses[i])};
    if (fetchAhead) fetch(runs[i].x + batch * runs[i].size, runs[i].size);
    encodeBlock<F>(runs[i].codes, runs[i].x, runs[i].size, by);
  }
}

// — panels: one scale a column, or one for all —

/** `V` vectors of columns whose last one is read by `at`: their highest magnitudes over all rows. */
template <int V, class At>
static inline void columnTops(At at, const Panel& p, vi* top) {
  for (int v = 0; v < V; v += 1) top[v] = set1i(0);
  const float* x = p.x;
  for (long r = 0; r < p.rows; r += 1, x += p.xStride) {
    if (p.next != nullptr) fetchQuarter(p.next + r * p.xStride, V * W);
    for (int v = 0; v < V; v += 1) top[v] = higher(magnitudeOf(at.load(x + v * W)), top[v]);
  }
}

/** The same columns where one of them holds NaN or infinities. */
template <class F, int V, class At>
static void quantizeWildColumns(At at, const Panel& p, float* scales, const Scaling& scaling) {
  for (int v = 0; v < V; v += 1) {
    vf top = set1(0);
    for (long r = 0; r < p.rows; r += 1) top = max(abs(at.load(p.row(r) + v * W)), top);
    const vf scale = scalesOf<F>(top, scaling);
    at.store(scales + v * W, scale);
    for (long r = 0; r < p.rows; r += 1)
      at.storeCodes(p.codesOf(r) + v * W,
                    toCodes<F>(div(at.load(p.row(r) + v * W), scale)));
  }
}

/** Scales of V vectors of columns; false where they are not finite, and then all is done. */
template <class F, int V, class At>
static inline bool divisorsOf(At at, const Panel& p, const vi* top, Divisor* by, float* scales,
                              const Scaling& scaling) {
  vi all = top[0];
  for (int v = 1; v < V; v += 1) all = higher(all, top[v]);
  if (anyAbove(all, set1i(largestFinite))) {
    quantizeWildColumns<F, V>(at, p, scales, scaling);
    return false;
  }
  for (int v = 0; v < V; v += 1) {
    by[v] = divisorOf(scalesOf<F>(asFloat(top[v]), scaling));
    at.store(scales + v * W, by[v].scale);
  }
  return true;
}

/** `V` vectors by as many divisors: whole ones in fours, the single ones beside them as `at` has it. */
template <class F, int V, class At>
static inline void encodeVectors(At at, uint8_t* codes, const float* x, const Divisor* by) {
  if constexpr (V % 4 == 0)
    for (int v = 0; v < V; v += 4) encodeFour<F>(codes + v * W, x + v * W, by + v);
  else
    for (int v = 0; v < V; v += 1)
      at.storeCodes(codes + v * W, quotientToCode<F>(at.load(x + v * W), by[v]));
}

/** The same columns into codes. */
template <class F, int V, class At>
static inline void encodeColumns(At at, const Panel& p, const Divisor* by) {
  const float* x = p.x;
  uint8_t* codes = p.codes;
  for (long r = 0; r < p.rows; r += 1, x += p.xStride, codes += p.codesStride) {
    if (p.next != nullptr) fetchRest(p.next + r * p.xStride, V * W);
    encodeVectors<F, V>(at, codes, x, by);
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
template <class F>
static void quantizeColumns(const Panel& panel, float* scales, const Scaling& scaling) {
  forColumns(panel.cols, [&](auto vectors, auto at, long c) {
    constexpr int V = decltype(vectors)::count;
    const Panel p = panel.from(c);
    vi top[V];
    Divisor by[V];
    columnTops<V>(at, p, top);
    if (divisorsOf<F, V>(at, p, top, by, scales + c, scaling)) encodeColumns<F, V>(at, p, by);
  });
}

/** One block. */
template <class F>
static void quantizeBlock(const Panel& panel, float* scaleOut, const Scaling& scaling) {
  vi all = set1i(0);
  forColumns(panel.cols, [&](auto vectors, auto at, long c) {
    constexpr int V = decltype(vectors)::count;
    vi top[V];
    columnTops<V>(at, panel.from(c), top);
    for (int v = 0; v < V; v += 1) all = higher(all, top[v]);
  });
  if (anyAbove(all, set1i(largestFinite))) return quantizeWild<F>(panel, scaleOut, scaling);
  const Divisor one = divisorOf(scalesOf<F>(set1(maxOfVector(asFloat(all))), scaling));
  storePartial(scaleOut, one.scale, 1);
  forColumns(panel.cols, [&](auto vectors, auto at, long c) {
    constexpr int V = decltype(vectors)::count;
    Divisor by[V];
    for (int v = 0; v < V; v += 1) by[v] = one;
    encodeColumns<F, V>(at, panel.from(c), by);
  });
}

// — both —

/** Scales of a panel's rows or columns. */
struct Scales {
  alignas(64) float scales[tile] = {};
  alignas(64) float inverses[tile];

  template <class F>
  void make(long count, const Scaling& scaling) {
    forRange(0, count, [&](auto at, long i) {
      const Divisor by = divisorOf(scalesOf<F>(at.load(scales + i), scaling));
      at.store(scales + i, by.scale);
      at.store(inverses + i, by.inverse);
    });
  }
};

/** A panel of at most 128 × 128 in both ways: `rowCodes` go with `rowScales`, the panel's own with `columnScales`. */
template <class F>
static void quantizeBothWays(const Panel& p, uint8_t* rowCodes, float* rowScales,
                             long rowScalesStride, float* columnScales, const Scaling& scaling) {
  vi rowTops[tile];
  Scales rows, columns;
  vi all = set1i(0);
  for (long r = 0; r < p.rows; r += 1) rowTops[r] = set1i(0);
  forColumns(p.cols, [&](auto vectors, auto at, long c) {
    constexpr int V = decltype(vectors)::count;
    vi top[V];
    for (int v = 0; v < V; v += 1) top[v] = set1i(0);
    for (long r = 0; r < p.rows; r += 1) {
      if (p.next != nullptr) fetchQuarter(p.next + r * p.xStride + c, V * W);
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
    quantizeColumns<F>(p, columnScales, scaling);
    for (long r = 0; r < p.rows; r += 1) {
      const Run run = {p.row(r), rowCodes + r * p.codesStride, p.cols};
      quantizeRuns<F>(&run, 1, rowScales + r * rowScalesStride, scaling);
    }
    return;
  }
  for (long r = 0; r < p.rows; r += 1) rows.scales[r] = maxOfVector(asFloat(rowTops[r]));
  rows.make<F>(p.rows, scaling);
  columns.make<F>(p.cols, scaling);
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
      if (p.next != nullptr) fetchRest(p.next + r * p.xStride + c, V * W);
      encodeVectors<F, V>(at, inRows, x, byRow);
      encodeVectors<F, V>(at, inColumns, x, by);
    }
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
