// Causal attention, forward (§2.1.1), with the softmax made along the way. A task is a chunk of one head's queries; it
// goes through the keys they see by blocks, packed once for the chunk. Of a query with scores z_j = scale · q·k_j and a
// block J of keys, relative to the largest score m so far:
//   m' = max(m, max_J z_j), t' = e^(m − m') t + Σ_J e^(z_j − m'), o' = e^(m − m') o + Σ_J e^(z_j − m') v_j;
// in the end out = o / t and lse = m + ln t.
//
// Blocks begin at multiples of keyBlock from key 0 and keys that a row does not see add exact zeros, so a row's result
// is the same whichever queries come with it. Only finite values make it so: the rows of a strip meet the same keys with
// p = 0 where they do not see them, and 0 · v of an infinite or NaN v is NaN. Such a v may spoil up to stripRows rows
// before the first that sees its key; the reference spoils none.
//
// A document among packed ones is attended to like a sequence of its own: its blocks begin at its first key.
#include "attention.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** Keys a block: its packed keys and values, and a strip's scores, stay in the first-level cache. */
constexpr long keyBlock = 128;
/** Most queries a chunk: their state stays in the second-level cache. */
constexpr long longestChunk = 512;

struct Inputs {
  AttentionShape shape;
  View out, lse, q, k, v;
};

/** One chunk's memory; pitches and strides in words. */
struct Chunk {
  long queryPitch, valuePitch, sumsPitch;
  float* queries;
  float* keyColumns;
  float* valueSums;
  /** Rows being packed. */
  float* rows;
  /** Σ p · v [query][column], Σ p [query][lane], and the largest score · scale · log₂ e. */
  float* sums;
  float* totals;
  float* tops;
};

template <bool Pairs>
long layOut(Chunk& c, float* memory, const AttentionShape& s, long count) {
  const long rows = roundUp(count, stripRows);
  Carver carver(memory);
  c.queryPitch = pitchOf<Pairs>(s.queryWidth);
  c.valuePitch = pitchOf<Pairs>(s.valueWidth);
  c.sumsPitch = roundUp(s.valueWidth, W);
  c.queries = carver.take(rows * c.queryPitch);
  c.keyColumns = carver.take(keyBlock * c.queryPitch);
  c.valueSums = carver.take(sumsWords<Pairs>(keyBlock, s.valueWidth));
  c.rows = carver.take(keyBlock * maxOf(c.queryPitch, c.valuePitch));
  c.sums = carver.take(rows * c.sumsPitch);
  c.totals = carver.take(rows * W);
  c.tops = carver.take(roundUp(rows, 16) + 16);
  return carver.used();
}

template <bool Pairs>
void packBlock(const Chunk& c, const Inputs& in, long head, long first, long count) {
  const AttentionShape& s = in.shape;
  const long padded = roundUp(count, panelCols);
  packRows<Pairs>(headRows(in.k, s, s.keys, head, s.queryWidth), first, count, padded, s.low, c.rows);
  packColumns(c.rows, padded, c.queryPitch, c.keyColumns);
  packRows<Pairs>(headRows(in.v, s, s.keys, head, s.valueWidth), first, count, padded, s.low, c.rows);
  packSums<Pairs>(c.rows, padded, c.valuePitch, c.valueSums, sumsStride<Pairs>(keyBlock));
}

/** A strip's scores with one block of keys, and then its probabilities (FP32 in place, or pairs). */
struct Strip {
  alignas(64) float scores[stripRows * keyBlock];
  alignas(64) float pairs[stripRows * keyBlock / 2];
  vf tops[stripRows];
};

/** scores = q · k of `count` keys; −∞ from where row r's `seen` + r end. Notes each row's largest, lane by lane. */
template <bool Pairs>
void scoreStrip(Strip& strip, const float* queries, const Chunk& c, long queryWidth, long count, long seen) {
  for (int r = 0; r < stripRows; r += 1) strip.tops[r] = set1(-INFINITY);
  const auto begin = [](int, int) { return set1(0); };
  for (long j = 0; j < count; j += panelCols) {
    const float* keys = c.keyColumns + j * c.queryPitch;
    float* at = strip.scores + j;
    const auto end = [&](int r, int n, vf x) {
      store(at + r * keyBlock + n * W, x);
      strip.tops[r] = max(strip.tops[r], x);
    };
    const auto endAtDiagonal = [&](int r, int n, vf x) {
      end(r, n, firstOr(x, seen + r - j - n * W, set1(-INFINITY)));
    };
    const TileRows a = {queries, c.queryPitch, 1};
    const long steps = wordsOf<Pairs>(queryWidth);
    const bool diagonal = j + panelCols > seen;
    if (count - j <= W) {
      tile<1, Pairs>(a, keys, steps, begin, endAtDiagonal);
    } else if (diagonal) {
      tile<2, Pairs>(a, keys, steps, begin, endAtDiagonal);
    } else {
      tile<2, Pairs>(a, keys, steps, begin, end);
    }
  }
}

/** p = 2^(factor · score − top) over a row's `count` scores; Σ of the unrounded is added to `total`. */
template <bool Pairs>
vf exponentials(Strip& strip, long row, long count, vf factor, vf top, vf total, bool low) {
  float* z = strip.scores + row * keyBlock;
  const vf shift = sub(set1(0), top);
  const auto power = [&](long j) {
    const vf p = exp2(fma(load(z + j), factor, shift));
    total = add(total, p);
    return p;
  };
#if defined(BALEEN_AVX512BF16)
  if constexpr (Pairs) {
    float* out = strip.pairs + row * keyBlock / 2;
    long j = 0;
    for (; j + W < count; j += panelCols) {
      const vf p = power(j);
      store(out + j / 2, pairsOf(p, power(j + W)));
    }
    if (j < count) store(out + j / 2, pairsOf(power(j), set1(0)));
    return total;
  }
#endif
  for (long j = 0; j < count; j += W) {
    const vf p = power(j);
    store(z + j, low ? roundedBf16(p) : p);
  }
  return total;
}

/** What a block of keys adds to rows [row, row + stripRows) of the chunk, or begins there. */
template <bool Pairs>
void attendStrip(Strip& strip, const Chunk& c, const AttentionShape& s, long row, long count, long seen, bool onto) {
  scoreStrip<Pairs>(strip, c.queries + row * c.queryPitch, c, s.queryWidth, count, seen);
  const float factor = s.scale * log2e;
  alignas(64) float highest[W];
  alignas(64) float shrink[W];
  const vf before = onto ? load(c.tops + row) : set1(-INFINITY);
  const vf tops = max(before, mul(foldRows(strip.tops, Largest{}), set1(factor)));
  store(shrink, exp2(sub(before, tops)));
  store(highest, tops);
  storeRows(c.tops + row, tops);
  for (long r = 0; r < stripRows; r += 1) {
    float* total = c.totals + (row + r) * W;
    const vf begin = onto ? mul(load(total), set1(shrink[r])) : set1(0);
    store(total, exponentials<Pairs>(strip, r, count, set1(factor), set1(highest[r]), begin, s.low));
  }
  const TileRows a = Pairs ? TileRows{strip.pairs, keyBlock / 2, 1} : TileRows{strip.scores, keyBlock, 1};
  const float* values = c.valueSums;
  for (long d = 0; d < s.valueWidth; d += panelCols, values += sumsStride<Pairs>(keyBlock)) {
    float* at = c.sums + row * c.sumsPitch + d;
    const auto begin = [&](int r, int n) {
      return onto ? mul(load(at + r * c.sumsPitch + n * W), set1(shrink[r])) : set1(0);
    };
    const auto end = [&](int r, int n, vf x) { store(at + r * c.sumsPitch + n * W, x); };
    if (s.valueWidth - d > W) {
      tile<2, Pairs>(a, values, wordsOf<Pairs>(count), begin, end);
    } else {
      tile<1, Pairs>(a, values, wordsOf<Pairs>(count), begin, end);
    }
  }
}

/** The first strip, of queries from `first` on, of which a row sees key k0. */
long firstStrip(const AttentionShape& s, long first, long k0) {
  return maxOf(0, k0 + 1 - s.seen(first)) / stripRows * stripRows;
}

template <bool Pairs>
void attendChunk(const Inputs& in, long head, long first, long count) {
  const AttentionShape& s = in.shape;
  Chunk c;
  const size_t bytes = static_cast<size_t>(layOut<Pairs>(c, nullptr, s, count)) * 4;
  layOut<Pairs>(c, static_cast<float*>(scratch(Scratch::packedA, bytes)), s, count);
  const long rows = roundUp(count, stripRows);
  packRows<Pairs>(headRows(in.q, s, s.queries, head, s.queryWidth), first, count, rows, s.low, c.queries);
  Strip strip;
  const long width = s.seen(first + count - 1);
  for (long k0 = 0; k0 < width; k0 += keyBlock) {
    packBlock<Pairs>(c, in, head, k0, minOf(keyBlock, width - k0));
    for (long row = firstStrip(s, first, k0); row < count; row += stripRows) {
      const long last = minOf(row + stripRows, count) - 1;
      const long keys = minOf(keyBlock, s.seen(first + last) - k0);
      attendStrip<Pairs>(strip, c, s, row, keys, s.seen(first + row) - k0, k0 > 0);
    }
  }
  const HeadRows results = headRows(in.out, s, s.queries, head, s.valueWidth);
  float* lse = in.lse.f32() + headLogs(s, head) + first;
  for (long row = 0; row < count; row += stripRows) {
    const long rest = minOf(stripRows, count - row);
    vf totals[stripRows];
    for (long r = 0; r < stripRows; r += 1) totals[r] = load(c.totals + (row + r) * W);
    const vf total = foldRows(totals, Sum{});
    alignas(64) float factors[W];
    store(factors, div(set1(1), total));
    for (long r = 0; r < rest; r += 1) {
      const vf factor = set1(factors[r]);
      const float* sums = c.sums + (row + r) * c.sumsPitch;
      float* to = in.out.f32() + results.offset + (first + row + r) * results.stride;
      forRange(0, s.valueWidth, [&](auto at, long d) { at.store(to + d, mul(load(sums + d), factor)); });
    }
    const vf logs = fma(load(c.tops + row), set1(static_cast<float>(ln2)), naturalLog(total));
    if (rest == stripRows) {
      storeRows(lse + row, logs);
    } else {
      storePartial(lse + row, logs, rest);
    }
  }
}

/** Queries a chunk: fewer where there would not be a few chunks a thread. */
long chunkLength(const AttentionShape& s) {
  long chunk = longestChunk;
  while (chunk > 64 && threads() > 1 && s.batch * s.heads * ceilDiv(s.queries, chunk) < 4 * threads()) chunk /= 2;
  return chunk;
}

}  // namespace

void attention(Args args) {
  Inputs in;
  in.out = args.view();
  in.lse = args.view();
  in.q = args.view();
  in.k = args.view();
  in.v = args.view();
  in.shape = readAttentionShape(args, in.q.dtype);
  const AttentionShape& s = in.shape;
  if (s.queries == 0 || s.keys == 0) return;
  const long chunk = chunkLength(s);
  const auto tasksOf = [&](const AttentionShape& own) { return own.batch * own.heads * ceilDiv(own.queries, chunk); };
  forTasks(s, tasksOf, [&](const AttentionShape& own, long task) {
    Inputs of = in;
    of.shape = own;
    const long chunks = ceilDiv(own.queries, chunk);
    const long first = task % chunks * chunk;
    const long count = minOf(chunk, own.queries - first);
#if defined(BALEEN_AVX512BF16)
    if (own.low) {
      attendChunk<true>(of, task / chunks, first, count);
      return;
    }
#endif
    attendChunk<false>(of, task / chunks, first, count);
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
