// Causal attention, backward. With P = exp(scale · q·k − lse), dP = dout · v, D_i = dout_i · out_i:
// dS = scale · P ∘ (dP − D), dq = dS k, dk = dSᵀ q, dv = Pᵀ dout.
//
// Scores are made transposed, strips of keys by vectors of queries: so Pᵀ and dSᵀ come out as rows along the queries,
// which dk and dv sum over, and the same registers give dS as words along the keys, which dq sums over. For each block of
// keys, blocks of queries follow in ascending order; so do blocks of keys for each block of queries. The factor `scale`
// of dS is applied to finished sums.
//
// A task is one head; where heads are too few for the threads, dk and dv are made by tasks of one block of keys, and dq
// by tasks of one block of queries, from the same sums in the same order. Of packed documents each is like a call of its own.
#include "attention.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** Keys and queries a block: what of it a strip reads again stays near; its scores exist a strip at a time. */
constexpr long keyBlock = 128;
constexpr long queryBlock = 128;

struct Inputs {
  AttentionShape shape;
  View dq, dk, dv, dout, q, k, v, out, lse;
};

/** A block of queries as the products read it. */
struct Queries {
  /** q and dout as columns, summed along their widths. */
  float* columns;
  float* gradColumns;
  /** The same summed along the rows. */
  float* sums;
  float* gradSums;
  /** lse (times −log₂ e for pairs), where it makes P zero behind the last query, and D. */
  float* logs;
  float* deltas;
};

/** A block of keys as the products read it, and what it gathers. */
struct Keys {
  float* rows;
  float* values;
  float* sums;
  float* dk;
  float* dv;
};

/** Memory of a task; pitches in words. */
struct Work {
  long queryPitch, valuePitch, dqPitch, dvPitch;
  Keys keys;
  /** The first of the blocks of queries, and words from one to the next. */
  Queries queries;
  long queriesStride;
  float* dq;
  /** Rows being packed. */
  float* packing;
  /**
   * A strip's scores and dP [key][query], then P and dS as rows of words; and dS of the whole block by words of keys,
   * which pairs keep as [vector of queries][word][query], near each other, others as [key][query], rows like those of P.
   */
  float* scores;
  float* slopes;
  float* p;
  float* ds;
  float* dsWords;
};

template <bool Pairs>
long layOut(Work& w, float* memory, const AttentionShape& s, long queryBlocks) {
  Carver carver(memory);
  w.queryPitch = pitchOf<Pairs>(s.queryWidth);
  w.valuePitch = pitchOf<Pairs>(s.valueWidth);
  w.dqPitch = roundUp(s.queryWidth, W);
  w.dvPitch = roundUp(s.valueWidth, W);
  w.keys.rows = carver.take(keyBlock * w.queryPitch);
  w.keys.values = carver.take(keyBlock * w.valuePitch);
  w.keys.sums = carver.take(sumsWords<Pairs>(keyBlock, s.queryWidth));
  w.keys.dk = carver.take(keyBlock * w.dqPitch);
  w.keys.dv = carver.take(keyBlock * w.dvPitch);
  w.packing = carver.take(queryBlock * maxOf(w.queryPitch, w.valuePitch));
  w.scores = carver.take(stripRows * queryBlock);
  w.slopes = carver.take(stripRows * queryBlock);
  w.dsWords = carver.take(wordsOf<Pairs>(keyBlock) * queryBlock);
  w.p = Pairs ? carver.take(stripRows * queryBlock / 2) : w.scores;
  w.ds = Pairs ? carver.take(stripRows * queryBlock / 2) : nullptr;
  w.dq = carver.take(queryBlocks * queryBlock * w.dqPitch);
  const long begin = carver.used();
  w.queries.columns = carver.take(queryBlock * w.queryPitch);
  w.queries.gradColumns = carver.take(queryBlock * w.valuePitch);
  w.queries.sums = carver.take(sumsWords<Pairs>(queryBlock, s.queryWidth));
  w.queries.gradSums = carver.take(sumsWords<Pairs>(queryBlock, s.valueWidth));
  w.queries.logs = carver.take(queryBlock);
  w.queries.deltas = carver.take(queryBlock);
  w.queriesStride = carver.used() - begin;
  return begin + queryBlocks * w.queriesStride;
}

/** Block `index` of those there is memory for. */
Queries queriesAt(const Work& w, long index) {
  const long offset = index * w.queriesStride;
  const Queries& q = w.queries;
  return {q.columns + offset,  q.gradColumns + offset, q.sums + offset,
          q.gradSums + offset, q.logs + offset,        q.deltas + offset};
}

template <bool Pairs>
void packKeys(const Work& w, const Inputs& in, long head, long first, long count) {
  const AttentionShape& s = in.shape;
  const long padded = roundUp(count, stripRows);
  packRows<Pairs>(headRows(in.k, s, s.keys, head, s.queryWidth), first, count, padded, s.low, w.keys.rows);
  packRows<Pairs>(headRows(in.v, s, s.keys, head, s.valueWidth), first, count, padded, s.low, w.keys.values);
  packSums<Pairs>(w.keys.rows, padded, w.queryPitch, w.keys.sums, sumsStride<Pairs>(keyBlock));
}

template <bool Pairs>
void packQueries(const Work& w, const Queries& to, const Inputs& in, long head, long first, long count) {
  const AttentionShape& s = in.shape;
  const long padded = roundUp(count, panelCols);
  packRows<Pairs>(headRows(in.q, s, s.queries, head, s.queryWidth), first, count, padded, s.low, w.packing);
  packColumns(w.packing, padded, w.queryPitch, to.columns);
  packSums<Pairs>(w.packing, padded, w.queryPitch, to.sums, sumsStride<Pairs>(queryBlock));
  const HeadRows grads = headRows(in.dout, s, s.queries, head, s.valueWidth);
  packRows<Pairs>(grads, first, count, padded, s.low, w.packing);
  packColumns(w.packing, padded, w.valuePitch, to.gradColumns);
  packSums<Pairs>(w.packing, padded, w.valuePitch, to.gradSums, sumsStride<Pairs>(queryBlock));
  for (long r = 0; r < padded; r += 1) {
    const long at = grads.offset + (first + r) * grads.stride;
    const float* grad = in.dout.f32() + at;
    const float* result = in.out.f32() + at;
    const float log = r < count ? in.lse.f32()[headLogs(s, head) + first + r] : INFINITY;
    to.logs[r] = Pairs ? -log2e * log : log;
    const auto product = [&](auto m, long d) { return mul(m.load(grad + d), m.load(result + d)); };
    to.deltas[r] = r < count ? sumRow(s.valueWidth, product) : 0;
  }
}

/** out [key][query] = rows · columns for one strip of keys and queries [from, to). */
template <bool Pairs>
void stripProduct(const float* rows, long pitch, const float* columns, long width, long from, long to, float* out) {
  const TileRows a = {rows, pitch, 1};
  const auto begin = [](int, int) { return set1(0); };
  for (long i = from; i < to;) {
    float* at = out + i;
    const float* b = columns + i / panelCols * panelCols * pitch + i % panelCols;
    const auto end = [&](int r, int n, vf x) { store(at + r * queryBlock + n * W, x); };
    if (i % panelCols == 0 && to - i > W) {
      tile<2, Pairs>(a, b, wordsOf<Pairs>(width), begin, end);
      i += panelCols;
    } else {
      tile<1, Pairs>(a, b, wordsOf<Pairs>(width), begin, end);
      i += W;
    }
  }
}

/** A vector of P and dS / scale at `at` of the strip: for queries from i on, of which `unseen` do not see the key. */
struct Slope {
  vf p;
  vf ds;
};
template <bool Pairs, bool Diagonal>
inline Slope slopeOf(const Work& w, const Queries& q, float scale, long at, long i, long unseen) {
  // FP32 takes the difference first: what is left of large numbers must not be their rounding.
  const vf z = load(w.scores + at);
  const vf log = load(q.logs + i);
  vf p = exp2(Pairs ? fma(z, set1(scale * log2e), log) : mul(sub(mul(z, set1(scale)), log), set1(log2e)));
  if constexpr (Diagonal) p = firstOr(set1(0), unseen, p);
  return {p, mul(p, sub(load(w.slopes + at), load(q.deltas + i)))};
}

#if defined(BALEEN_AVX512BF16)
inline void storeHalves(float* low, float* high, vi x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm512_castsi512_si256(x));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), _mm512_extracti64x4_epi64(x, 1));
}
#endif

/** P and dS of a strip: `unseen` first queries do not see its first key, one more each key after. */
template <bool Pairs, bool Diagonal>
void strip(const Work& w, const Queries& q, const AttentionShape& s, long row, long from, long to, long unseen) {
#if defined(BALEEN_AVX512BF16)
  if constexpr (Pairs) {
    alignas(64) static constexpr uint16_t lanes[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const vi together = _mm512_load_si512(lanes);
    for (long r = 0; r < stripRows; r += 2)
      for (long i = from; i < to; i += W) {
        const long at = r * queryBlock + i;
        const Slope even = slopeOf<true, Diagonal>(w, q, s.scale, at, i, unseen + r - i);
        const Slope odd = slopeOf<true, Diagonal>(w, q, s.scale, at + queryBlock, i, unseen + r + 1 - i);
        const vi ps = asInt(pairsOf(even.p, odd.p));
        const vi ds = asInt(pairsOf(even.ds, odd.ds));
        storeHalves(w.p + at / 2, w.p + (at + queryBlock) / 2, ps);
        storeHalves(w.ds + at / 2, w.ds + (at + queryBlock) / 2, ds);
        // Query i's even key, then its odd one: the unit sums over both.
        store(w.dsWords + i * (keyBlock / 2) + (row + r) / 2 * W, asFloat(_mm512_permutexvar_epi16(together, ds)));
      }
    return;
  }
#endif
  for (long r = 0; r < stripRows; r += 1)
    for (long i = from; i < to; i += W) {
      const long at = r * queryBlock + i;
      const Slope x = slopeOf<false, Diagonal>(w, q, s.scale, at, i, unseen + r - i);
      store(w.p + at, s.low ? roundedBf16(x.p) : x.p);
      store(w.dsWords + row * queryBlock + at, s.low ? roundedBf16(x.ds) : x.ds);
    }
}

/** Which sums a task is for. */
struct Wanted {
  bool dq;
  bool dkv;
};

/**
 * Keys [k0, k0 + keyCount) with queries [i0, i0 + count): adds to the keys' dk and dv, and to dq, or begins them where
 * nothing has been added yet.
 */
template <bool Pairs>
void block(const Work& w, const Queries& q, const AttentionShape& s, long k0, long keyCount, long i0, long count,
           float* dq, Wanted wanted) {
  const long to = roundUp(count, W);
  const long queryStride = sumsStride<Pairs>(queryBlock);
  for (long row = 0; row < keyCount; row += stripRows) {
    // Queries of this block before the one that sees key k0 + row do not see it.
    const long unseen = k0 + row + 1 - s.seen(i0);
    const long from = maxOf(0, unseen) / W * W;
    if (from >= to) break;
    const float* keys = w.keys.rows + row * w.queryPitch;
    const float* values = w.keys.values + row * w.valuePitch;
    stripProduct<Pairs>(keys, w.queryPitch, q.columns, s.queryWidth, from, to, w.scores);
    stripProduct<Pairs>(values, w.valuePitch, q.gradColumns, s.valueWidth, from, to, w.slopes);
    if (unseen + stripRows > from + 1) {
      strip<Pairs, true>(w, q, s, row, from, to, unseen);
    } else {
      strip<Pairs, false>(w, q, s, row, from, to, unseen);
    }
    if (!wanted.dkv) continue;
    // The block before these queries, if there is one, may not see these keys.
    const bool onto = i0 > 0 && unseen < 0;
    const long first = wordsOf<Pairs>(from);
    const long steps = wordsOf<Pairs>(to) - first;
    const long pitch = wordsOf<Pairs>(queryBlock);
    const float* ds = Pairs ? w.ds : w.dsWords + row * queryBlock;
    addProduct<Pairs>({w.p + first, pitch, 1}, q.gradSums + first * panelCols, queryStride, steps,
                      w.keys.dv + row * w.dvPitch, w.dvPitch, s.valueWidth, onto);
    addProduct<Pairs>({ds + first, pitch, 1}, q.sums + first * panelCols, queryStride, steps,
                      w.keys.dk + row * w.dqPitch, w.dqPitch, s.queryWidth, onto);
  }
  if (!wanted.dq) return;
  for (long i = 0; i < count; i += stripRows) {
    const long keys = minOf(keyCount, s.seen(i0 + i + stripRows - 1) - k0);
    if (keys <= 0) continue;
    const TileRows ds = Pairs ? TileRows{w.dsWords + i / W * W * (keyBlock / 2) + i % W, 1, W}
                              : TileRows{w.dsWords + i, 1, queryBlock};
    addProduct<Pairs>(ds, w.keys.sums, sumsStride<Pairs>(keyBlock), wordsOf<Pairs>(keys), dq + i * w.dqPitch, w.dqPitch,
                      s.queryWidth, k0 > 0);
  }
}

/** Finished sums · factor to rows [first, first + count) of one head of a tensor. */
void writeRows(const View& to, const HeadRows& rows, long first, long count, const float* sums, long pitch,
               float factor) {
  const vf scale = set1(factor);
  for (long r = 0; r < count; r += 1) {
    float* at = to.f32() + rows.offset + (first + r) * rows.stride;
    forRange(0, rows.width, [&](auto m, long c) { m.store(at + c, mul(load(sums + r * pitch + c), scale)); });
  }
}

template <bool Pairs>
Work prepare(const AttentionShape& s, long queryBlocks) {
  Work w;
  const size_t bytes = static_cast<size_t>(layOut<Pairs>(w, nullptr, s, queryBlocks)) * 4;
  layOut<Pairs>(w, static_cast<float*>(scratch(Scratch::packedA, bytes)), s, queryBlocks);
  return w;
}

/** dk and dv of one block of keys, and with `dq` what it adds to every query's; `packed`: the queries are already. */
template <bool Pairs>
void runKeys(const Work& w, const Inputs& in, long head, long k0, bool packed) {
  const AttentionShape& s = in.shape;
  const long keyCount = minOf(keyBlock, s.keys - k0);
  packKeys<Pairs>(w, in, head, k0, keyCount);
  const long begin = maxOf(0, k0 + 1 - s.seen(0)) / queryBlock * queryBlock;
  for (long i0 = begin; i0 < s.queries; i0 += queryBlock) {
    const long count = minOf(queryBlock, s.queries - i0);
    const Queries q = queriesAt(w, packed ? i0 / queryBlock : 0);
    if (!packed) packQueries<Pairs>(w, q, in, head, i0, count);
    block<Pairs>(w, q, s, k0, keyCount, i0, count, packed ? w.dq + i0 * w.dqPitch : nullptr, {packed, true});
  }
  const HeadRows dk = headRows(in.dk, s, s.keys, head, s.queryWidth);
  const HeadRows dv = headRows(in.dv, s, s.keys, head, s.valueWidth);
  writeRows(in.dk, dk, k0, keyCount, w.keys.dk, w.dqPitch, s.scale);
  writeRows(in.dv, dv, k0, keyCount, w.keys.dv, w.dvPitch, 1);
}

template <bool Pairs>
void runHead(const Inputs& in, long head) {
  const AttentionShape& s = in.shape;
  const Work w = prepare<Pairs>(s, ceilDiv(s.queries, queryBlock));
  for (long i0 = 0; i0 < s.queries; i0 += queryBlock)
    packQueries<Pairs>(w, queriesAt(w, i0 / queryBlock), in, head, i0, minOf(queryBlock, s.queries - i0));
  for (long k0 = 0; k0 < s.keys; k0 += keyBlock) runKeys<Pairs>(w, in, head, k0, true);
  const HeadRows dq = headRows(in.dq, s, s.queries, head, s.queryWidth);
  writeRows(in.dq, dq, 0, s.queries, w.dq, w.dqPitch, s.scale);
}

/** dq of one block of queries. */
template <bool Pairs>
void runQueries(const Inputs& in, long head, long i0) {
  const AttentionShape& s = in.shape;
  const Work w = prepare<Pairs>(s, 1);
  const long count = minOf(queryBlock, s.queries - i0);
  packQueries<Pairs>(w, queriesAt(w, 0), in, head, i0, count);
  const long width = s.seen(i0 + count - 1);
  for (long k0 = 0; k0 < width; k0 += keyBlock) {
    const long keyCount = minOf(keyBlock, s.keys - k0);
    packKeys<Pairs>(w, in, head, k0, keyCount);
    block<Pairs>(w, queriesAt(w, 0), s, k0, keyCount, i0, count, w.dq, {true, false});
  }
  const HeadRows dq = headRows(in.dq, s, s.queries, head, s.queryWidth);
  writeRows(in.dq, dq, i0, count, w.dq, w.dqPitch, s.scale);
}

template <bool Pairs>
void runAll(const Inputs& in) {
  // Tasks of one head: one, or its blocks of keys and then of queries. Making scores and dP twice costs about 3/8 more
  // work; a task a head leaves threads idle in the last round, unless as many others as large fill it.
  const auto ofHead = [](const AttentionShape& s) {
    const long like = s.batch * s.heads * (s.documents ? s.rows / s.queries : 1);
    const long rounds = ceilDiv(like, threads());
    if (8 * rounds * threads() <= 11 * like || s.keys <= 2 * keyBlock) return 1L;
    return ceilDiv(s.keys, keyBlock) + ceilDiv(s.queries, queryBlock);
  };
  const auto tasksOf = [&](const AttentionShape& s) { return s.batch * s.heads * ofHead(s); };
  forTasks(in.shape, tasksOf, [&](const AttentionShape& s, long task) {
    Inputs of = in;
    of.shape = s;
    const long tasks = ofHead(s);
    const long head = task / tasks;
    const long at = task % tasks;
    const long keyBlocks = ceilDiv(s.keys, keyBlock);
    if (tasks == 1) {
      runHead<Pairs>(of, head);
    } else if (at < keyBlocks) {
      runKeys<Pairs>(prepare<Pairs>(s, 1), of, head, at * keyBlock, false);
    } else {
      runQueries<Pairs>(of, head, (at - keyBlocks) * queryBlock);
    }
  });
}

}  // namespace

void attentionBackward(Args args) {
  Inputs in;
  in.dq = args.view();
  in.dk = args.view();
  in.dv = args.view();
  in.dout = args.view();
  in.q = args.view();
  in.k = args.view();
  in.v = args.view();
  in.out = args.view();
  in.lse = args.view();
  in.shape = readAttentionShape(args, in.q.dtype);
  const AttentionShape& s = in.shape;
  if (s.keys == 0) return;
  if (s.queries == 0) {
    // No query asks anything of the keys.
    const size_t rows = static_cast<size_t>(s.batch * s.keys * s.heads);
    memset(in.dk.f32(), 0, rows * static_cast<size_t>(s.queryWidth) * 4);
    memset(in.dv.f32(), 0, rows * static_cast<size_t>(s.valueWidth) * 4);
    return;
  }
#if defined(BALEEN_AVX512BF16)
  if (s.low) {
    runAll<true>(in);
    return;
  }
#endif
  runAll<false>(in);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
