// gemm, groupedGemm and groupedGemmWeight: calls become products of `product.h`.
#include "kernels.h"
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** An operand stored [storedRows, storedCols] as a source of the product. */
Source sourceOf(const Operand& x, long storedCols, bool transposed) {
  Source s = plainSource(x.values.data, x.values.dtype, storedCols, transposed);
  if (x.scales) {
    s.scales = x.scales.f32();
    s.blockRows = x.blockRows;
    s.blockCols = x.blockCols;
    s.scaleStride = ceilDiv(storedCols, x.blockCols);
  }
  return s;
}

/** The same source from stored row `row` on, whose first scale row is `scaleRow`. */
Source fromRow(Source s, long row, long scaleRow) {
  s.data = static_cast<const char*>(s.data) + row * s.stride * elementBytes(s.dtype);
  if (s.scales != nullptr) s.scales += scaleRow * s.scaleStride;
  return s;
}

/** Runs products as the rest of the arguments says: in V3's way, or summed another. */
void run(const Problem* problems, long count, Args& args) {
  const double promotion = args.number();
  const int fractionBits = static_cast<int>(args.integer());
  const bool aligned = args.flag();
  // Left out: every `depth`. Beyond the length of any sum: never.
  const long interval = promotion == 0 ? depth : static_cast<long>(promotion < 0x1p50 ? promotion : 0x1p50);
  if (fractionBits == 0 && interval % depth == 0) {
    multiply(problems, count);
  } else {
    multiplySummed(problems, count, {interval, fractionBits, aligned});
  }
}

Problem* problemsFor(long groups) {
  return static_cast<Problem*>(scratch(Scratch::first, static_cast<size_t>(groups) * sizeof(Problem)));
}

}  // namespace

void gemm(Args args) {
  const View c = args.view();
  const Operand a = args.operand();
  const Operand b = args.operand();
  const long m = args.integer();
  const long n = args.integer();
  const long k = args.integer();
  const bool transA = args.flag();
  const bool transB = args.flag();
  const bool accumulate = args.flag();
  const Problem problem = {m, n, k, sourceOf(a, transA ? m : k, transA), sourceOf(b, transB ? k : n, !transB),
                           {c.f32(), n, accumulate}};
  run(&problem, 1, args);
}

void groupedGemm(Args args) {
  const View c = args.view();
  const Operand a = args.operand();
  const Operand b = args.operand();
  const int32_t* offsets = args.view().i32();
  const long groups = args.integer();
  args.integer();  // rows: offsets[groups]
  const long n = args.integer();
  const long k = args.integer();
  const bool transB = args.flag();
  const bool accumulate = args.flag();
  const long bRows = transB ? n : k;
  const Source left = sourceOf(a, k, false);
  const Source right = sourceOf(b, transB ? k : n, !transB);
  const long bScaleRows = right.scales ? ceilDiv(bRows, right.blockRows) : 0;
  Problem* problems = problemsFor(groups);
  long aScaleRow = 0;
  for (long g = 0; g < groups; g += 1) {
    const long first = offsets[g];
    const long rows = offsets[g + 1] - first;
    problems[g] = {rows,
                   n,
                   k,
                   fromRow(left, first, aScaleRow),
                   fromRow(right, g * bRows, g * bScaleRows),
                   {c.f32() + first * n, n, accumulate}};
    aScaleRow += ceilDiv(rows, left.blockRows);
  }
  run(problems, groups, args);
}

void groupedGemmWeight(Args args) {
  const View c = args.view();
  const Operand a = args.operand();
  const Operand b = args.operand();
  const int32_t* offsets = args.view().i32();
  const long groups = args.integer();
  args.integer();  // rows: offsets[groups]
  const long m = args.integer();
  const long n = args.integer();
  const bool accumulate = args.flag();
  const Source left = sourceOf(a, m, true);
  const Source right = sourceOf(b, n, true);
  Problem* problems = problemsFor(groups);
  long scaleRow = 0;
  for (long g = 0; g < groups; g += 1) {
    const long first = offsets[g];
    const long rows = offsets[g + 1] - first;
    problems[g] = {m,
                   n,
                   rows,
                   fromRow(left, first, scaleRow),
                   fromRow(right, first, scaleRow),
                   {c.f32() + g * m * n, n, accumulate}};
    scaleRow += ceilDiv(rows, depth);
  }
  run(problems, groups, args);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
