// Reductions over whole tensors, and AdamW.
#include "../elements.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

// Elements summed in FP32 before the sum goes on in double. Fixed, so that the tree depends on the size alone.
static constexpr long piece = 4096;

/** Σ term over [0, size): FP32 within pieces, double over pieces in order. */
template <class Term>
static double sumPieces(long size, Term&& term) {
  const long pieces = ceilDiv(size, piece);
  float* sums = static_cast<float*>(
      scratch(Scratch::first, static_cast<size_t>(maxOf(1, pieces)) * sizeof(float)));
  // A megabyte or more: less is summed sooner than another thread fetches its half from this one's cache.
  parallelRanges(pieces, 64, 1, [&](long begin, long end) {
    for (long p = begin; p < end; p += 1) {
      const long first = p * piece;
      sums[p] = sumRow(minOf(piece, size - first),
                       [&](auto at, long i) { return term(at, first + i); });
    }
  });
  double total = 0;
  for (long p = 0; p < pieces; p += 1) total += static_cast<double>(sums[p]);
  return total;
}

void sum(Args args) {
  const View out = args.view();
  const View x = args.view();
  out.f32()[0] = static_cast<float>(
      sumPieces(x.size, [&](auto at, long i) { return at.load(x.f32() + i); }));
}

void sumOfSquares(Args args) {
  const View out = args.view();
  const View x = args.view();
  out.f32()[0] = static_cast<float>(sumPieces(x.size, [&](auto at, long i) {
    const vf v = at.load(x.f32() + i);
    return mul(v, v);
  }));
}

static bool isFinite(double x) { return x - x == 0; }

void clipFactor(Args args) {
  const View norm = args.view();
  const View factor = args.view();
  const View finite = args.view();
  const View squares = args.view();
  const View loss = args.view();
  const double maxNorm = args.number();
  double sum = 0;
  for (long i = 0; i < squares.size; i += 1) sum += static_cast<double>(squares.f32()[i]);
  const double total = ::sqrt(sum);
  const double ratio = maxNorm / (total + 1e-6);
  norm.f32()[0] = static_cast<float>(total);
  // A NaN is not above 1 and stays.
  factor.f32()[0] = static_cast<float>(ratio > 1 ? 1 : ratio);
  finite.i32()[0] = isFinite(total) && isFinite(static_cast<double>(loss.f32()[0])) ? 1 : 0;
}

/**
 * m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − lr · (m̂ / (√v̂ + ε) + wd · θ) with m̂ = m / (1−β₁ᵗ), v̂ = v / (1−β₂ᵗ),
 * in one pass; the update is computed from the moments before they are rounded to their type.
 */
void adamw(Args args) {
  const View parameter = args.view();
  const View gradient = args.view();
  const View first = args.view();
  const View second = args.view();
  const View factor = args.view();
  const View finite = args.view();
  const float* rates = args.view().f32();
  const double beta1 = args.number();
  const double beta2 = args.number();
  const double epsilon = args.number();
  const double weightDecay = args.number();
  if (finite.i32()[0] == 0) return;
  const vf clip = set1(factor.f32()[0]);
  const vf keep1 = set1(static_cast<float>(beta1));
  const vf keep2 = set1(static_cast<float>(beta2));
  const vf take1 = set1(static_cast<float>(1 - beta1));
  const vf take2 = set1(static_cast<float>(1 - beta2));
  const vf correct1 = set1(rates[1]);
  const vf correct2 = set1(rates[2]);
  const vf eps = set1(static_cast<float>(epsilon));
  const vf decay = set1(static_cast<float>(weightDecay));
  const vf rate = set1(-rates[0]);
  const auto updateAll = [&](auto* firsts, auto* seconds) {
    forElements(parameter.size, 8192, [&](auto at, long i) {
      const vf g = mul(at.load(gradient.f32() + i), clip);
      const vf m = add(mul(keep1, at.load(firsts + i)), mul(take1, g));
      const vf v = add(mul(keep2, at.load(seconds + i)), mul(mul(take2, g), g));
      at.store(firsts + i, m);
      at.store(seconds + i, v);
      const vf p = at.load(parameter.f32() + i);
      const vf update = div(mul(m, correct1), add(sqrt(mul(v, correct2)), eps));
      at.store(parameter.f32() + i, fma(rate, fma(decay, p, update), p));
    });
  };
  if (first.dtype == DType::bf16)
    updateAll(first.bf16(), second.bf16());
  else
    updateAll(first.f32(), second.f32());
}

}  // namespace BALEEN_ISA
}  // namespace baleen
