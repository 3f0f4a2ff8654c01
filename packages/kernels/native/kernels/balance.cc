// The balance loss (§2.1.2, eq. 17–20): factor · Σᵢ fᵢPᵢ a sequence, and its gradient. fᵢ is the sequence's own, or that of a
// whole batch, of which this call sees a part.
//
// Sequences are cut into pieces of a fixed number of tokens, so that one long sequence keeps all threads busy and the
// sums do not depend on how many there are.
#include "../elements.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

static constexpr long pieceTokens = 64;
// Keeps a token's sum of scores from being zero, as the published code does.
static constexpr float leastSum = 1e-20f;

struct Balance {
  const float* scores;
  /** The choice of scores alone; null where `counts` says how often each expert is chosen in the whole batch. */
  const int32_t *indices, *counts;
  float* dscores;
  long sequences, length, experts, k;
  double factor;
  /** Of fᵢ, for each time that i was chosen. */
  double each;
  /** Pieces of a sequence. */
  long pieces;
  /** What each piece finds: Σ sᵢ / Σⱼ sⱼ [experts] and how often i was chosen [experts]. */
  float *shares, *times;
  /** fᵢ of every sequence [experts]. */
  float* f;

  long begin(long piece) const {
    return piece / pieces * length + piece % pieces * pieceTokens;
  }
  long end(long piece) const {
    return minOf(begin(piece) + pieceTokens, (piece / pieces + 1) * length);
  }
};

static float scoreSum(const float* scores, long experts) {
  return leastSum + sumRow(experts, [&](auto at, long e) { return at.load(scores + e); });
}

static void gather(const Balance& b, long piece) {
  float* shares = b.shares + piece * b.experts;
  float* times = b.times + piece * b.experts;
  for (long e = 0; e < b.experts; e += 1) shares[e] = times[e] = 0;
  for (long t = b.begin(piece); t < b.end(piece); t += 1) {
    const float* scores = b.scores + t * b.experts;
    const vf inverse = set1(1 / scoreSum(scores, b.experts));
    forRange(0, b.experts, [&](auto at, long e) {
      at.store(shares + e, fma(at.load(scores + e), inverse, at.load(shares + e)));
    });
    if (b.indices != nullptr)
      for (long j = 0; j < b.k; j += 1) times[b.indices[t * b.k + j]] += 1;
  }
}

/** Σᵢ fᵢPᵢ of a sequence, from its pieces in order; keeps fᵢ. */
static double sequenceLoss(const Balance& b, long sequence) {
  double sum = 0;
  for (long e = 0; e < b.experts; e += 1) {
    double share = 0, times = b.counts != nullptr ? b.counts[e] : 0;
    for (long piece = sequence * b.pieces; piece < (sequence + 1) * b.pieces; piece += 1) {
      share += static_cast<double>(b.shares[piece * b.experts + e]);
      times += static_cast<double>(b.times[piece * b.experts + e]);
    }
    sum += times * b.each * share / static_cast<double>(b.length);
    b.f[sequence * b.experts + e] = static_cast<float>(times * b.each);
  }
  return sum;
}

/** dsᵢ += factor / (length · S) · (fᵢ − Σⱼ fⱼ sⱼ / S) with S = Σⱼ sⱼ. */
static void gradient(const Balance& b, long piece) {
  const float* f = b.f + piece / b.pieces * b.experts;
  for (long t = b.begin(piece); t < b.end(piece); t += 1) {
    const float* scores = b.scores + t * b.experts;
    float* ds = b.dscores + t * b.experts;
    const float sum = scoreSum(scores, b.experts);
    const float dot = sumRow(b.experts, [&](auto at, long e) {
      return mul(at.load(scores + e), at.load(f + e));
    });
    const vf mixed = set1(dot / sum);
    const vf factor = set1(static_cast<float>(b.factor / (static_cast<double>(b.length) * sum)));
    forRange(0, b.experts, [&](auto at, long e) {
      at.store(ds + e, fma(factor, sub(at.load(f + e), mixed), at.load(ds + e)));
    });
  }
}

void balanceLoss(Args args) {
  const View loss = args.view();
  const View dscores = args.view();
  const View scores = args.view();
  const View indices = args.view();
  const View counts = args.view();
  Balance b;
  b.scores = scores.f32();
  b.indices = indices.i32();
  b.counts = counts.i32();
  b.dscores = dscores.f32();
  b.sequences = args.integer();
  b.length = args.integer();
  b.experts = args.integer();
  b.k = args.integer();
  b.factor = args.number();
  if (b.sequences <= 0 || b.length <= 0 || b.experts <= 0) return;
  double counted = static_cast<double>(b.k * b.length);
  if (b.counts != nullptr) {
    counted = 0;
    for (long e = 0; e < b.experts; e += 1) counted += b.counts[e];
  }
  b.each = counted > 0 ? static_cast<double>(b.experts) / counted : 0;
  b.pieces = ceilDiv(b.length, pieceTokens);
  const long pieces = b.sequences * b.pieces;
  const long numbers = (2 * pieces + b.sequences) * b.experts;
  b.shares = static_cast<float*>(
      scratch(Scratch::first, static_cast<size_t>(numbers) * sizeof(float)));
  b.times = b.shares + pieces * b.experts;
  b.f = b.times + pieces * b.experts;
  const long grain = maxOf(1, rowGrain(b.experts) / pieceTokens);
  parallelRanges(pieces, grain, 1, [&](long begin, long end) {
    for (long piece = begin; piece < end; piece += 1) gather(b, piece);
  });
  double total = 0;
  for (long sequence = 0; sequence < b.sequences; sequence += 1) total += sequenceLoss(b, sequence);
  loss.f32()[0] = static_cast<float>(loss.f32()[0] + b.factor * total);
  if (b.dscores == nullptr) return;
  parallelRanges(pieces, grain, 1, [&](long begin, long end) {
    for (long piece = begin; piece < end; piece += 1) gradient(b, piece);
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
