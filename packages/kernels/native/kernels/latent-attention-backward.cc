// Attention over latents, backward. With P = exp(scale · q·row − lse), dP = dout · latent, D = dout · out:
// dS = scale · P ∘ (dP − D), dq = dS rows, drows = dSᵀ q, and to their latents comes Pᵀ dout.
//
// All heads meet the same rows, so heads and queries of a sequence are rows of one product: row r is head r mod heads of
// query r / heads. A task is a block of those, which gets its dq, or a block of tokens, which gets its gradient; each goes
// through blocks of the other kind in ascending order and makes scores and dP for itself. That is a third more work than
// making them once, and nobody waits or adds for another. The factor `scale` of dS is applied to finished sums.
#include "attention.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** Tokens, and rows, of a block. */
constexpr long blockSide = 128;

struct Inputs {
  long batch, queries, keys, heads, rank, rope;
  float scale;
  bool low;
  View dq, dkeys, dout, q, rows, out, lse;

  long width() const { return rank + rope; }
  long count() const { return queries * heads; }
  /** Tokens that row r sees. */
  long seen(long r) const { return keys - queries + r / heads + 1; }
};

/** Memory of a task; pitches in words. */
struct Work {
  long pitch, gradPitch, sumsPitch, gradSumsPitch;
  /** Tokens as rows, as columns, and summed along the tokens. */
  float* tokens;
  float* columns;
  float* tokenSums;
  /** Queries and dout as rows, and summed along the rows. */
  float* queries;
  float* grads;
  float* querySums;
  float* gradSums;
  /** lse and D of the rows. */
  float* logs;
  float* deltas;
  /** A strip's scores and dP [row][token]. */
  float* scores;
  float* slopes;
  /** P and dS: words of tokens [row][word] for dq, words of rows [word][token] for the tokens. */
  float* p;
  float* ds;
  /** What is gathered: dq, or the tokens' gradient from q and from dout. */
  float* sums;
  float* valueSums;
};

template <bool Pairs>
long layOut(Work& w, float* memory, const Inputs& in) {
  Carver carver(memory);
  w.pitch = pitchOf<Pairs>(in.width());
  w.gradPitch = pitchOf<Pairs>(in.rank);
  w.sumsPitch = roundUp(in.width(), W);
  w.gradSumsPitch = roundUp(in.rank, W);
  w.tokens = carver.take(blockSide * w.pitch);
  w.columns = carver.take(blockSide * w.pitch);
  w.tokenSums = carver.take(sumsWords<Pairs>(blockSide, in.width()));
  w.queries = carver.take(blockSide * w.pitch);
  w.grads = carver.take(blockSide * w.gradPitch);
  w.querySums = carver.take(sumsWords<Pairs>(blockSide, in.width()));
  w.gradSums = carver.take(sumsWords<Pairs>(blockSide, in.rank));
  w.logs = carver.take(blockSide);
  w.deltas = carver.take(blockSide);
  w.scores = carver.take(stripRows * blockSide);
  w.slopes = carver.take(stripRows * blockSide);
  w.p = carver.take(blockSide * blockSide);
  w.ds = carver.take(blockSide * blockSide);
  w.sums = carver.take(blockSide * w.sumsPitch);
  w.valueSums = carver.take(blockSide * w.gradSumsPitch);
  return carver.used();
}

template <bool Pairs>
Work prepare(const Inputs& in) {
  Work w;
  const size_t bytes = static_cast<size_t>(layOut<Pairs>(w, nullptr, in)) * 4;
  layOut<Pairs>(w, static_cast<float*>(scratch(Scratch::packedA, bytes)), in);
  return w;
}

template <bool Pairs>
void packTokens(const Work& w, const Inputs& in, long sequence, long first, long count, bool forRows) {
  const HeadRows rows = {in.rows.data, in.rows.dtype, sequence * in.keys * in.width(), in.width(), in.width()};
  const long padded = roundUp(count, panelCols);
  packRows<Pairs>(rows, first, count, padded, in.low, w.tokens);
  packColumns(w.tokens, padded, w.pitch, w.columns);
  if (forRows) packSums<Pairs>(w.tokens, padded, w.pitch, w.tokenSums, sumsStride<Pairs>(blockSide));
}

template <bool Pairs>
void packQueries(const Work& w, const Inputs& in, long sequence, long first, long count, bool forTokens) {
  const long begin = sequence * in.count();
  const long padded = roundUp(count, panelCols);
  const HeadRows queries = {in.q.data, in.q.dtype, begin * in.width(), in.width(), in.width()};
  const HeadRows grads = {in.dout.data, DType::f32, begin * in.rank, in.rank, in.rank};
  packRows<Pairs>(queries, first, count, padded, in.low, w.queries);
  packRows<Pairs>(grads, first, count, padded, in.low, w.grads);
  if (forTokens) {
    packSums<Pairs>(w.queries, padded, w.pitch, w.querySums, sumsStride<Pairs>(blockSide));
    packSums<Pairs>(w.grads, padded, w.gradPitch, w.gradSums, sumsStride<Pairs>(blockSide));
  }
  for (long r = 0; r < count; r += 1) {
    const long row = first + r;
    const float* grad = in.dout.f32() + (begin + row) * in.rank;
    const float* result = in.out.f32() + (begin + row) * in.rank;
    w.logs[r] = in.lse.f32()[(sequence * in.heads + row % in.heads) * in.queries + row / in.heads];
    w.deltas[r] = sumRow(in.rank, [&](auto at, long d) { return mul(at.load(grad + d), at.load(result + d)); });
  }
}

/** out [row][token] of one strip of rows with the block's tokens. */
template <bool Pairs>
void stripProduct(const Work& w, const float* rows, long pitch, long width, long tokens, float* out) {
  const auto begin = [](int, int) { return set1(0); };
  for (long j = 0; j < tokens; j += panelCols) {
    const auto end = [&](int r, int n, vf x) { store(out + r * blockSide + j + n * W, x); };
    tile<2, Pairs>({rows, pitch, 1}, w.columns + j * w.pitch, wordsOf<Pairs>(width), begin, end);
  }
}

/** P and dS / scale of a vector of tokens. */
struct Slope {
  vf p;
  vf ds;
};
inline Slope slopeOf(const Work& w, const Inputs& in, long r, long at, long visible) {
  const vf z = mul(load(w.scores + at), set1(in.scale));
  const vf power = exp2(mul(sub(z, set1(w.logs[r])), set1(log2e)));
  const vf p = visible >= W ? power : firstOr(power, maxOf(visible, 0), set1(0));
  return {p, mul(p, sub(load(w.slopes + at), set1(w.deltas[r])))};
}

/** Scores and dP of rows [row, row + stripRows) of the block with its tokens. */
template <bool Pairs>
void scoreStrip(const Work& w, const Inputs& in, long row, long tokens) {
  stripProduct<Pairs>(w, w.queries + row * w.pitch, w.pitch, in.width(), tokens, w.scores);
  stripProduct<Pairs>(w, w.grads + row * w.gradPitch, w.gradPitch, in.rank, tokens, w.slopes);
}

/** What tokens [k0, k0 + tokens) bring to the dq of rows [first, first + count). */
template <bool Pairs>
void addToRows(const Work& w, const Inputs& in, long first, long count, long k0, long tokens) {
  const long padded = roundUp(tokens, 2 * W);
  for (long row = 0; row < count; row += stripRows) {
    scoreStrip<Pairs>(w, in, row, tokens);
    for (long r = 0; r < stripRows; r += 1) {
      const long own = minOf(row + r, count - 1);
      const long visible = minOf(tokens, in.seen(first + own) - k0);
      const auto ds = [&](long j) { return slopeOf(w, in, own, r * blockSide + j, visible - j).ds; };
#if defined(BALEEN_AVX512BF16)
      if constexpr (Pairs) {
        for (long j = 0; j < padded; j += 2 * W) {
          const vf low = ds(j);
          store(w.ds + (r * blockSide + j) / 2, pairsOf(low, ds(j + W)));
        }
        continue;
      }
#endif
      for (long j = 0; j < padded; j += W) store(w.ds + r * blockSide + j, in.low ? roundedBf16(ds(j)) : ds(j));
    }
    addProduct<Pairs>({w.ds, wordsOf<Pairs>(blockSide), 1}, w.tokenSums, sumsStride<Pairs>(blockSide),
                      wordsOf<Pairs>(tokens), w.sums + row * w.sumsPitch, w.sumsPitch, in.width(), k0 > 0);
  }
}

/** What rows [first, first + count) bring to the gradient of tokens [k0, k0 + tokens). */
template <bool Pairs>
void addToTokens(const Work& w, const Inputs& in, long first, long count, long k0, long tokens, bool onto) {
  const long padded = roundUp(tokens, W);
  for (long row = 0; row < count; row += stripRows) {
    scoreStrip<Pairs>(w, in, row, tokens);
    const auto slope = [&](long r, long j) {
      if (row + r >= count) return Slope{set1(0), set1(0)};
      return slopeOf(w, in, row + r, r * blockSide + j, minOf(tokens, in.seen(first + row + r) - k0) - j);
    };
#if defined(BALEEN_AVX512BF16)
    if constexpr (Pairs) {
      alignas(64) static constexpr uint16_t lanes[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                         8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
      const vi together = _mm512_load_si512(lanes);
      for (long r = 0; r < stripRows; r += 2)
        for (long j = 0; j < padded; j += W) {
          const Slope even = slope(r, j);
          const Slope odd = slope(r + 1, j);
          const long at = (row + r) / 2 * blockSide + j;
          store(w.p + at, asFloat(_mm512_permutexvar_epi16(together, asInt(pairsOf(even.p, odd.p)))));
          store(w.ds + at, asFloat(_mm512_permutexvar_epi16(together, asInt(pairsOf(even.ds, odd.ds)))));
        }
      continue;
    }
#endif
    for (long r = 0; r < stripRows; r += 1)
      for (long j = 0; j < padded; j += W) {
        const Slope x = slope(r, j);
        store(w.p + (row + r) * blockSide + j, in.low ? roundedBf16(x.p) : x.p);
        store(w.ds + (row + r) * blockSide + j, in.low ? roundedBf16(x.ds) : x.ds);
      }
  }
  const long steps = wordsOf<Pairs>(count);
  const long stride = sumsStride<Pairs>(blockSide);
  for (long k = 0; k < tokens; k += stripRows) {
    addProduct<Pairs>({w.ds + k, 1, blockSide}, w.querySums, stride, steps, w.sums + k * w.sumsPitch, w.sumsPitch,
                      in.width(), onto);
    addProduct<Pairs>({w.p + k, 1, blockSide}, w.gradSums, stride, steps, w.valueSums + k * w.gradSumsPitch,
                      w.gradSumsPitch, in.rank, onto);
  }
}

template <bool Pairs>
void runRows(const Inputs& in, long sequence, long first) {
  const Work w = prepare<Pairs>(in);
  const long count = minOf(blockSide, in.count() - first);
  packQueries<Pairs>(w, in, sequence, first, count, false);
  const long end = in.seen(first + count - 1);
  for (long k0 = 0; k0 < end; k0 += blockSide) {
    const long tokens = minOf(blockSide, end - k0);
    packTokens<Pairs>(w, in, sequence, k0, tokens, true);
    addToRows<Pairs>(w, in, first, count, k0, tokens);
  }
  for (long r = 0; r < count; r += 1) {
    float* to = in.dq.f32() + (sequence * in.count() + first + r) * in.width();
    const float* sums = w.sums + r * w.sumsPitch;
    forRange(0, in.width(), [&](auto at, long c) { at.store(to + c, mul(load(sums + c), set1(in.scale))); });
  }
}

template <bool Pairs>
void runTokens(const Inputs& in, long sequence, long k0) {
  const Work w = prepare<Pairs>(in);
  const long tokens = minOf(blockSide, in.keys - k0);
  packTokens<Pairs>(w, in, sequence, k0, tokens, false);
  // Rows of earlier queries do not see the first of these tokens.
  const long begin = maxOf(0, k0 + 1 - in.seen(0)) * in.heads / blockSide * blockSide;
  for (long first = begin; first < in.count(); first += blockSide) {
    const long count = minOf(blockSide, in.count() - first);
    packQueries<Pairs>(w, in, sequence, first, count, true);
    addToTokens<Pairs>(w, in, first, count, k0, tokens, first > begin);
  }
  for (long k = 0; k < tokens; k += 1) {
    float* to = in.dkeys.f32() + (sequence * in.keys + k0 + k) * in.width();
    const float* sums = w.sums + k * w.sumsPitch;
    const float* values = w.valueSums + k * w.gradSumsPitch;
    forRange(0, in.width(), [&](auto at, long c) { at.store(to + c, mul(load(sums + c), set1(in.scale))); });
    forRange(0, in.rank, [&](auto at, long c) { at.store(to + c, add(at.load(to + c), load(values + c))); });
  }
}

template <bool Pairs>
void runAll(const Inputs& in) {
  const long rowBlocks = ceilDiv(in.count(), blockSide);
  const long blocks = rowBlocks + ceilDiv(in.keys, blockSide);
  parallelFor(in.batch * blocks, [&](long task) {
    const long block = task % blocks;
    if (block < rowBlocks) {
      runRows<Pairs>(in, task / blocks, block * blockSide);
    } else {
      runTokens<Pairs>(in, task / blocks, (block - rowBlocks) * blockSide);
    }
  });
}

}  // namespace

void latentAttentionBackward(Args args) {
  Inputs in;
  in.dq = args.view();
  in.dkeys = args.view();
  in.dout = args.view();
  in.q = args.view();
  in.rows = args.view();
  in.out = args.view();
  in.lse = args.view();
  in.batch = args.integer();
  in.queries = args.integer();
  in.keys = args.integer();
  in.heads = args.integer();
  in.rank = args.integer();
  in.rope = args.integer();
  in.scale = static_cast<float>(args.number());
  in.low = in.q.dtype == DType::bf16;
  if (in.count() == 0) {
    // No query asks anything of the tokens.
    memset(in.dkeys.f32(), 0, static_cast<size_t>(in.batch * in.keys * in.width()) * 4);
    return;
  }
#if defined(BALEEN_AVX512BF16)
  if (in.low) {
    runAll<true>(in);
    return;
  }
#endif
  runAll<false>(in);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
