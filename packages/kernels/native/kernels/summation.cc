// Products of FP8 whose sums are promoted at other intervals than 128, or made as a tensor core makes them
// (src/contract/matrix.ts, `gemm`; the arithmetic is in partial-sums.h).
//
// A task has some rows of one product and a tile of its columns. It decodes a segment of b at a time, and of a the rows of
// a few tiles: a number is decoded once for many that it is multiplied with, so neither is packed for all tasks. Sums and
// accumulators of the task's rows wait between segments.
#include "partial-sums.h"

#include "../shuffle.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** Rows of a that are decoded together, whole tiles. */
constexpr long rowBlock = W;
/** Most products of k whose operands are decoded together. */
constexpr long segment = 512;
/** Most products of a partial sum that are added up in one go: whole instructions, as many as the shortest scale spans. */
constexpr long stretch = 128;
/** Most rows of a task. */
constexpr long taskRows = 256;
/** Below this many multiply-adds the other threads are not worth waking. */
constexpr double serialWork = 1 << 15;

/** What scales span along k, and the scale of a row from k0 on. */
long scaleSpan(const Source& s) { return s.transposed ? s.blockRows : s.blockCols; }
float scaleOf(const Source& s, long row, long k0) {
  const long r = (s.transposed ? k0 : row) / s.blockRows;
  const long c = (s.transposed ? row : k0) / s.blockCols;
  return s.scales[r * s.scaleStride + c];
}

/** Products [at, at + count) of k: a partial sum, or a part of one. */
struct Piece {
  long at;
  long count;
  bool begins;
  bool ends;
};

/** Cuts k into pieces, in order. */
class Pieces {
 public:
  Pieces(const Problem& p, const Summation& s)
      : k_(p.k), lengths_{s.promotion, scaleSpan(p.a), scaleSpan(p.b)}, border_(borderAfter(0)) {}

  /** Where the next piece begins. */
  long at() const { return at_; }
  /** Takes the next piece, if there is one that ends at `limit` or before. */
  bool take(long limit, Piece* piece) {
    const long count = minOf(stretch, border_ - at_);
    if (count == 0 || at_ + count > limit) return false;
    *piece = {at_, count, at_ == first_, at_ + count == border_};
    at_ += count;
    if (piece->ends) {
      first_ = at_;
      border_ = borderAfter(at_);
    }
    return true;
  }

 private:
  /** Where the partial sum that begins at `at` ends: at a promotion, and where a scale does. */
  long borderAfter(long at) const {
    long border = k_;
    for (const long length : lengths_) border = minOf(border, at - at % length + length);
    return border;
  }

  const long k_;
  const long lengths_[3];
  long border_;
  long at_ = 0;
  long first_ = 0;
};

/** Values, and codes of their exponents. */
struct Decoded {
  float* values;
  void* codes;
  /** Whether all values are numbers; not looked at without exponents. */
  bool finite;
};

/** Codes of the exponents of `count` values, given to `write` by vectors. */
template <class Write>
bool codeExponents(const float* values, long count, DType dtype, Write&& write) {
  const vi least = set1i(leastField(dtype));
  vi top = set1i(0);
  for (long i = 0; i < count; i += W) {
    const vf x = load(values + i);
    top = higher(top, magnitudeOf(x));
    write(i, exponentCodes(x, least));
  }
  return !anyAbove(top, set1i(largestFinite));
}

/** b's columns [first, first + count) over [k0, k0 + length), `tileCols` for each k. */
void decodeB(Decoded& out, const Source& s, long first, long count, long k0, long length, bool exponents) {
  if (s.transposed) {
    decodePiece(out.values, tileCols, tileCols, s, {k0, length, first, count});
  } else {
    alignas(64) float rows[tileCols * stretch];
    memset(rows + count * stretch, 0, static_cast<size_t>((tileCols - count) * stretch) * 4);
    for (long kk = 0; kk < length; kk += stretch) {
      const long some = minOf(stretch, length - kk);
      const long width = ceilDiv(some, W) * W;
      decodePiece(rows, stretch, width, s, {first, count, k0 + kk, some});
      transposeWords(rows, stretch, width, out.values + kk * tileCols, tileCols);
    }
  }
  if (!exponents) return;
  uint8_t* codes = static_cast<uint8_t*>(out.codes);
  out.finite = codeExponents(out.values, length * tileCols, s.dtype, [&](long i, vi code) { store8(codes + i, code); });
}

/** a's rows [first, first + count) over [k0, k0 + length), by row or by k as they lie. */
void decodeA(Decoded& out, const Source& s, long first, long count, long k0, long length, bool exponents) {
  long words = length * rowBlock;
  if (s.transposed) {
    decodePiece(out.values, rowBlock, rowBlock, s, {k0, length, first, count});
  } else {
    const long width = ceilDiv(length, W) * W;
    decodePiece(out.values, width, width, s, {first, count, k0, length});
    memset(out.values + count * width, 0, static_cast<size_t>((rowBlock - count) * width) * 4);
    words = rowBlock * width;
  }
  if (!exponents) return;
  float* codes = static_cast<float*>(out.codes);
  out.finite = codeExponents(out.values, words, s.dtype, [&](long i, vi code) {
    // Four times in a word.
    const vi twice = ori(code, shiftLeft<8>(code));
    store(codes + i, asFloat(ori(twice, shiftLeft<16>(twice))));
  });
}

/** sum = fl(sum + fl(partial · fl(scaleA · scaleB))) of a tile's row. */
template <class Sum>
void promote(float* sums, const Sum* partial, float scaleA, const float* scalesB) {
  alignas(64) float rounded[tileCols];
  for (long j = 0; j < tileCols; j += 1) rounded[j] = static_cast<float>(partial[j]);
  for (long j = 0; j < tileCols; j += W) {
    const vf scale = mul(set1(scaleA), load(scalesB + j));
    store(sums + j, add(load(sums + j), mul(load(rounded + j), scale)));
  }
}

/** Rows [first, first + rows) of a product by its columns from `col` on, with accumulators of this type. */
template <class Sum>
void runTask(const Problem& p, const Summation& s, long first, long rows, long col) {
  const long cols = minOf(tileCols, p.n - col);
  const long sumCount = ceilDiv(rows, rowBlock) * rowBlock * tileCols;
  Sum* partials = static_cast<Sum*>(scratch(Scratch::sums, static_cast<size_t>(sumCount) * (sizeof(Sum) + 4)));
  float* sums = reinterpret_cast<float*>(partials + sumCount);
  memset(sums, 0, static_cast<size_t>(sumCount) * 4);
  float* rowsOfA = static_cast<float*>(scratch(Scratch::packedA, static_cast<size_t>(rowBlock * segment) * 8));
  Decoded a = {rowsOfA, rowsOfA + rowBlock * segment, true};
  float* colsOfB = static_cast<float*>(scratch(Scratch::ownB, static_cast<size_t>(tileCols * segment) * 5));
  Decoded b = {colsOfB, colsOfB + tileCols * segment, true};
  const bool exponents = s.fractionBits != 0;
  const Core core = {s.fractionBits, s.aligned, leastField(p.a.dtype) + leastField(p.b.dtype) - 127 - 2 * firstCode};
  const long span = scaleSpan(p.b);
  alignas(64) float scalesB[(segment / stretch + 1) * tileCols] = {};
  Piece pieces[segment];
  Pieces cut(p, s);
  while (cut.at() < p.k) {
    const long k0 = cut.at();
    long count = 0;
    while (cut.take(k0 + segment, &pieces[count])) count += 1;
    const long length = cut.at() - k0;
    decodeB(b, p.b, col, cols, k0, length, exponents);
    for (long block = k0 / span; block * span < cut.at(); block += 1)
      for (long j = 0; j < cols; j += 1)
        scalesB[(block - k0 / span) * tileCols + j] = scaleOf(p.b, col + j, block * span);
    for (long row = 0; row < rows; row += rowBlock) {
      const long present = minOf(rowBlock, rows - row);
      decodeA(a, p.a, first + row, present, k0, length, exponents);
      const long aRow = p.a.transposed ? 1 : ceilDiv(length, W) * W;
      const long aStep = p.a.transposed ? rowBlock : 1;
      for (long i = 0; i < count; i += 1) {
        const Piece& piece = pieces[i];
        const long kk = piece.at - k0;
        for (long t = 0; t < present; t += tileRows) {
          Sum* partial = partials + (row + t) * tileCols;
          const long at = t * aRow + kk * aStep;
          addRun({a.values + at, static_cast<const int32_t*>(a.codes) + at, aRow, aStep, b.values + kk * tileCols,
                  static_cast<const uint8_t*>(b.codes) + kk * tileCols, piece.count, piece.begins},
                 core, a.finite && b.finite, partial);
          if (!piece.ends) continue;
          for (long r = 0; r < minOf(tileRows, present - t); r += 1)
            promote(sums + (row + t + r) * tileCols, partial + r * tileCols, scaleOf(p.a, first + row + t + r, piece.at),
                    scalesB + (piece.at / span - k0 / span) * tileCols);
        }
      }
    }
  }
  for (long r = 0; r < rows; r += 1)
    writeRow(p.out.c + (first + r) * p.out.stride + col, sums + r * tileCols, cols, p.out.accumulate);
}

}  // namespace

void multiplySummed(const Problem* problems, long count, const Summation& s) {
  double work = 0;
  long tiles = 0;
  for (long i = 0; i < count; i += 1) {
    const Problem& p = problems[i];
    work += static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
    if (p.m > 0) tiles += ceilDiv(p.n, tileCols);
  }
  // About four tasks a thread over all products.
  const bool serial = work < serialWork || threads() == 1;
  const long parts = serial ? 1 : ceilDiv(4L * threads(), maxOf(1, tiles));
  const auto rowsOf = [&](const Problem& p) {
    return minOf(taskRows, ceilDiv(ceilDiv(p.m, parts), rowBlock) * rowBlock);
  };
  const auto tasksOf = [&](const Problem& p) {
    return p.m == 0 ? 0 : ceilDiv(p.m, rowsOf(p)) * ceilDiv(p.n, tileCols);
  };
  long tasks = 0;
  for (long i = 0; i < count; i += 1) tasks += tasksOf(problems[i]);
  const auto run = [&](long task) {
    const Problem* p = problems;
    for (; task >= tasksOf(*p); p += 1) task -= tasksOf(*p);
    const long chunks = ceilDiv(p->m, rowsOf(*p));
    const long first = task % chunks * rowsOf(*p);
    const auto take = s.fractionBits > narrowBits ? &runTask<double> : &runTask<float>;
    take(*p, s, first, minOf(rowsOf(*p), p->m - first), task / chunks * tileCols);
  };
  if (serial) {
    for (long task = 0; task < tasks; task += 1) run(task);
  } else {
    parallelFor(tasks, [&](long task) { run(task); });
  }
}

}  // namespace BALEEN_ISA
}  // namespace baleen
