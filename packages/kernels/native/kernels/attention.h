// What attention's forward and backward pass share: sizes, the layouts its products read, one product's inner tile, and
// a cheap exponential.
//
// Products here are short (a head's width, or a block of keys), so they have a tile of their own: `stripRows` rows of a
// whose elements are broadcast from wherever they lie, times two vectors of columns of b. The unit along the summed
// dimension is a word: a pair of BF16 values on the BF16 dot unit (`Pairs`), one FP32 value elsewhere.
#pragma once
#include "../elements.h"
#include "../shuffle.h"

namespace baleen {
namespace BALEEN_ISA {

/**
 * Rows of a tile: with two vectors of columns, enough sums to hide an instruction's latency, and few enough for the
 * set's registers.
 */
#if defined(BALEEN_AVX512)
constexpr long stripRows = 8;
#else
constexpr long stripRows = 4;
#endif
/** Columns of a tile, and of a panel of b. */
constexpr long panelCols = 2 * W;

inline long roundUp(long n, long unit) { return ceilDiv(n, unit) * unit; }

struct AttentionShape {
  long batch, queries, keys, heads, queryWidth, valueWidth;
  float scale;
  /** q, k and v are BF16: so are the operands of all products. */
  bool low;
  /** Borders of documents, or null. */
  View documents;
  /** Of one document: rows before it. Query rows of the whole are as many as lse has for a head. */
  long origin;
  long rows;

  /** Keys that query row i sees. */
  long seen(long i) const { return keys - queries + i + 1; }
};

inline AttentionShape readAttentionShape(Args& args, DType dtype) {
  AttentionShape s;
  s.batch = args.integer();
  s.queries = args.integer();
  s.keys = args.integer();
  s.heads = args.integer();
  s.queryWidth = args.integer();
  s.valueWidth = args.integer();
  s.scale = static_cast<float>(args.number());
  s.low = dtype == DType::bf16;
  s.documents = args.view();
  s.origin = 0;
  s.rows = s.queries;
  return s;
}

/** One document's shape: attention of it alone, at its place in the tensors. */
inline AttentionShape documentShape(const AttentionShape& whole, long document) {
  AttentionShape s = whole;
  const int32_t* border = whole.documents.i32() + document;
  s.origin = border[0];
  s.queries = border[1] - border[0];
  s.keys = s.queries;
  return s;
}

/**
 * run(shape, task) for each of the tasksOf(shape) tasks of a call: of its one shape, or of every document's. A document's
 * tasks are those that it would have alone, so its numbers are those that it would have alone.
 */
template <class TasksOf, class Run>
void forTasks(const AttentionShape& s, TasksOf&& tasksOf, Run&& run) {
  if (!s.documents) {
    parallelFor(tasksOf(s), [&](long task) { run(s, task); });
    return;
  }
  const long documents = s.documents.size - 1;
  long* ends = static_cast<long*>(scratch(Scratch::plans, static_cast<size_t>(documents + 1) * sizeof(long)));
  long tasks = 0;
  for (long d = 0; d < documents; d += 1) {
    const AttentionShape own = documentShape(s, d);
    tasks += own.queries == 0 ? 0 : tasksOf(own);
    ends[d] = tasks;
  }
  parallelFor(tasks, [&](long task) {
    long low = 0;
    for (long high = documents - 1; low < high;) {
      const long middle = (low + high) / 2;
      if (ends[middle] > task) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    run(documentShape(s, low), low == 0 ? task : task - ends[low - 1]);
  });
}

/** One head's rows of a tensor [sequences, rows, heads, width]. */
struct HeadRows {
  const void* tensor;
  DType dtype;
  /** Elements to the first row, and from one to the next. */
  long offset;
  long stride;
  long width;
};

/** Head `head` of batch · heads, where sequences have `rows` rows. */
inline HeadRows headRows(const View& x, const AttentionShape& s, long rows, long head, long width) {
  const long first = head / s.heads * rows + s.origin;
  return {x.data, x.dtype, (first * s.heads + head % s.heads) * width, s.heads * width, width};
}
/** Where lse begins for a head. */
inline long headLogs(const AttentionShape& s, long head) { return head * s.rows + s.origin; }

/** Words that n values along a summed dimension take. */
template <bool Pairs>
constexpr long wordsOf(long n) {
  return Pairs ? (n + 1) / 2 : n;
}
/** Words of a packed row of `width` values: whole vectors of any set. */
template <bool Pairs>
constexpr long pitchOf(long width) {
  return (wordsOf<Pairs>(width) + 15) / 16 * 16;
}

/** Rows [first, first + count) as rows of words, zeros behind the width and in rows from `count` to `padded`. */
template <bool Pairs>
void packRows(const HeadRows& rows, long first, long count, long padded, bool low, float* out);

/** `count` packed rows (a multiple of panelCols) as b's columns, summed along the width: [panel][word][column]. */
void packColumns(const float* rows, long count, long pitch, float* out);

/** `count` packed rows (even) summed along the rows: [panel of width][word][column], panels `stride` words apart. */
template <bool Pairs>
void packSums(const float* rows, long count, long pitch, float* out, long stride);
/** Words from one such panel to the next over `count` rows, and of all of them. */
template <bool Pairs>
constexpr long sumsStride(long count) {
  return wordsOf<Pairs>(count) * panelCols;
}
template <bool Pairs>
constexpr long sumsWords(long count, long width) {
  return ceilDiv(roundUp(width, Pairs ? 32 : 16), panelCols) * sumsStride<Pairs>(count);
}

/** Words of a: of tile row r at step s, at[r · row + s · step]. */
struct TileRows {
  const float* at;
  long row;
  long step;
};

/** Nothing besides a tile's products. */
struct NothingElse {
  void operator()() const {}
};

/**
 * Rows × N vectors: sums begin as `begin(row, vector)` and go to `end(row, vector, sum)`. `next(columns)` gives b's vectors
 * of one step after another. Steps are added in ascending order, so a sum does not depend on what else the tile holds. A
 * step takes `Parts` neighbouring words of a row, repeated through the vector: every lane its own. `each()` is done beside it.
 */
template <int N, bool Pairs, int Rows = stripRows, int Parts = 1, class Next, class Begin, class End, class Each>
inline __attribute__((always_inline)) void tileOf(TileRows a, Next&& next, long steps, Begin&& begin, End&& end,
                                                  Each&& each) {
  vf acc[Rows][N];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r += 1)
#pragma GCC unroll 2
    for (int n = 0; n < N; n += 1) acc[r][n] = begin(r, n);
  const float* at = a.at;
  for (long step = 0; step < steps; step += 1) {
    vf columns[N];
    next(columns);
    each();
#pragma GCC unroll 16
    for (int r = 0; r < Rows; r += 1) {
      const vf x = repeat<Parts>(at + r * a.row);
#pragma GCC unroll 2
      for (int n = 0; n < N; n += 1) {
#if defined(BALEEN_AVX512BF16)
        if constexpr (Pairs) {
          acc[r][n] = _mm512_dpbf16_ps(acc[r][n], (__m512bh)x, (__m512bh)columns[n]);
          continue;
        }
#endif
        acc[r][n] = fma(x, columns[n], acc[r][n]);
      }
    }
    at += a.step;
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r += 1)
#pragma GCC unroll 2
    for (int n = 0; n < N; n += 1) end(r, n, acc[r][n]);
}

/** The same, where b lies in memory: panelCols words a step. */
template <int N, bool Pairs, int Rows = stripRows, int Parts = 1, class Begin, class End, class Each = NothingElse>
inline __attribute__((always_inline)) void tile(TileRows a, const float* b, long steps, Begin&& begin, End&& end,
                                                Each&& each = {}) {
  const auto next = [&](vf* columns) {
#pragma GCC unroll 2
    for (int n = 0; n < N; n += 1) columns[n] = load(b + n * W);
    b += panelCols;
  };
  tileOf<N, Pairs, Rows, Parts>(a, next, steps, begin, end, each);
}

/** Sums in memory: out = a · b, or with `onto` out += a · b, for `width` columns rounded up to vectors. */
template <bool Pairs>
inline void addProduct(TileRows a, const float* b, long panelStride, long steps, float* out, long pitch, long width,
                       bool onto) {
  for (long c = 0; c < width; c += panelCols, b += panelStride) {
    float* at = out + c;
    const auto begin = [&](int r, int n) { return onto ? load(at + r * pitch + n * W) : set1(0); };
    const auto end = [&](int r, int n, vf x) { store(at + r * pitch + n * W, x); };
    if (width - c > W) {
      tile<2, Pairs>(a, b, steps, begin, end);
    } else {
      tile<1, Pairs>(a, b, steps, begin, end);
    }
  }
}

constexpr float log2e = 1.44269504f;
constexpr double ln2 = 0.69314718055994530942;

/**
 * 2^x within 2e-7 of itself, for x < 127: 2^n · 2^r with n = round(x), 2^r = 1 + r · q(r) by the polynomial of least
 * relative error on [−½, ½]. −∞ gives zero, NaN NaN.
 */
inline vf exp2(vf x) {
#if defined(BALEEN_AVX512)
  const vf n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const vf r = sub(x, n);
#else
  // Adding 1.5 · 2²³ rounds, and leaves n in the sum's last bits. From −127 down r is 0 and the result 1 with 127 less
  // in its exponent's field, which is +0. max returns its second argument for NaN.
  const vf shift = set1(12582912.0f);
  const vf bounded = max(set1(-127.0f), x);
  const vf shifted = add(bounded, shift);
  const vf r = sub(bounded, sub(shifted, shift));
#endif
  vf p = set1(0.00132647273f);
  p = fma(p, r, set1(0.00967151299f));
  p = fma(p, r, set1(0.0555073359f));
  p = fma(p, r, set1(0.240222424f));
  p = fma(p, r, set1(0.693147004f));
  p = fma(p, r, set1(1.0f));
#if defined(BALEEN_AVX512)
  // Of −∞, r and so p are NaN, but 2^−∞ times a NaN is defined as zero here.
  return _mm512_scalef_ps(p, n);
#else
  return asFloat(addi(asInt(p), shiftLeft<23>(asInt(shifted))));
#endif
}

/**
 * ln x for x ≥ 1 within 2e-7: x = 2^n · m with m around 1, ln m = 2 · artanh f = 2 (f + f³/3 + …) with
 * f = (m − 1)/(m + 1).
 * What is no number stays none.
 */
inline vf naturalLog(vf x) {
  // Exponents are counted from √½, whose pattern this is: m is in [√½, √2).
  const vi above = subi(asInt(x), set1i(0x3f3504f3));
  const vi n = subi(shiftRight<23>(addi(above, set1i(128 << 23))), set1i(128));
  const vf m = asFloat(subi(asInt(x), shiftLeft<23>(n)));
  const vf f = div(sub(m, set1(1)), add(m, set1(1)));
  const vf ff = mul(f, f);
  vf p = set1(2.0f / 9);
  p = fma(p, ff, set1(2.0f / 7));
  p = fma(p, ff, set1(2.0f / 5));
  p = fma(p, ff, set1(2.0f / 3));
  p = fma(p, ff, set1(2.0f));
  const vf sum = fma(toFloat(n), set1(static_cast<float>(ln2)), mul(p, f));
  return asFloat(selectGreater(asInt(x), set1i(0x7f7fffff), asInt(x), asInt(sum)));
}

/** Rounded to BF16 and back. */
inline vf roundedBf16(vf x) { return fromBf16(toBf16(x)); }

/** 0, 1, 2, … */
inline vi laneNumbers() {
  alignas(64) static constexpr float numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return roundToInt(load(numbers));
}
/** x in lanes below `count`, else `other`. */
inline vf firstOr(vf x, long count, vf other) {
  return asFloat(selectGreater(set1i(static_cast<int>(count)), laneNumbers(), asInt(x), asInt(other)));
}

#if defined(BALEEN_AVX512BF16)
/** Two vectors as 2W neighbouring BF16 values: W pairs. */
inline vf pairsOf(vf low, vf high) { return (vf)_mm512_cvtne2ps_pbh(high, low); }
#endif

struct Sum {
  vf operator()(vf a, vf b) const { return add(a, b); }
  float ofOne(vf x) const { return sumOf(x); }
};
struct Largest {
  vf operator()(vf a, vf b) const { return max(a, b); }
  float ofOne(vf x) const { return maxOfVector(x); }
};
/** Each of stripRows vectors folded to one element: in the first lanes, in order. */
template <class Fold>
inline vf foldRows(const vf* rows, Fold fold) {
#if defined(BALEEN_AVX512)
  // Vectors are halved side by side, so that no lane is idle: a third of the instructions of one after another.
  vf halves[4];
  vf quarters[2];
  for (int i = 0; i < 4; i += 1)
    halves[i] = fold(_mm512_shuffle_f32x4(rows[2 * i], rows[2 * i + 1], 0x44),
                     _mm512_shuffle_f32x4(rows[2 * i], rows[2 * i + 1], 0xee));
  for (int i = 0; i < 2; i += 1)
    quarters[i] = fold(_mm512_shuffle_f32x4(halves[2 * i], halves[2 * i + 1], 0x88),
                       _mm512_shuffle_f32x4(halves[2 * i], halves[2 * i + 1], 0xdd));
  vf x = fold(_mm512_unpacklo_ps(quarters[0], quarters[1]), _mm512_unpackhi_ps(quarters[0], quarters[1]));
  x = fold(x, _mm512_permute_ps(x, 0x4e));
  // Now quarter i holds row i, then row 4 + i, twice.
  return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13), x);
#elif defined(BALEEN_NEON)
  // In the order of sumOf, two rows side by side, then four.
  vf halves[2];
  for (int i = 0; i < 2; i += 1) {
    const vf a = rows[2 * i];
    const vf b = rows[2 * i + 1];
    halves[i] = fold(vcombine_f32(vget_low_f32(a), vget_low_f32(b)), vcombine_f32(vget_high_f32(a), vget_high_f32(b)));
  }
  return fold(vuzp1q_f32(halves[0], halves[1]), vuzp2q_f32(halves[0], halves[1]));
#else
  float folded[W] = {};
  for (long r = 0; r < stripRows; r += 1) folded[r] = fold.ofOne(rows[r]);
  return load(folded);
#endif
}
/** One number a row of a strip. */
inline void storeRows(float* out, vf x) {
  if constexpr (stripRows == W) {
    store(out, x);
  } else {
    storePartial(out, x, stripRows);
  }
}

/** Cuts one scratch buffer into arrays of floats; first called without memory, to count. */
class Carver {
 public:
  explicit Carver(float* at) : base_(at), used_(0) {}
  float* take(long words) {
    float* result = base_ == nullptr ? nullptr : base_ + used_;
    used_ += roundUp(words, 16);
    return result;
  }
  long used() const { return used_; }

 private:
  float* base_;
  long used_;
};

}  // namespace BALEEN_ISA
}  // namespace baleen
