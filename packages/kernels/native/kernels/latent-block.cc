// See latent-block.h.
#include "latent-block.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

// — scores —

/** Scores of one run of tokens with N vectors of heads: into their [token][head]. */
template <bool Pairs, int N, int Rows, int Parts>
void scoreRun(const Group& g, const float* rows, const float* columns, float* scores, Ahead& ahead) {
  constexpr int lanes = W / Parts;
  const long stride = latentBlock * lanes;
  vf sums[N][Rows];
  const auto begin = [](int, int) { return set1(0); };
  const auto end = [&](int r, int n, vf x) { sums[n][r] = x; };
  tile<N, Pairs, Rows, Parts>({rows, g.pitch, Parts}, columns, g.pitch / Parts, begin, end, ahead);
  for (int n = 0; n < N; n += 1) {
    // Parts are added two by two: vectors of tokens side by side come of it.
    int count = Rows;
    for (int parts = Parts; parts > 1; parts /= 2) {
      count /= 2;
      for (int i = 0; i < count; i += 1) sums[n][i] = addNeighbours(sums[n][2 * i], sums[n][2 * i + 1]);
    }
    for (int i = 0; i < count; i += 1) store(scores + n * stride + i * W, sums[n][i]);
  }
}

/** All runs of a block with N vectors. */
template <bool Pairs, int N, int Parts>
void scoreVectors(const Group& g, const BlockRows& b, const float* columns, float* scores, Ahead& ahead) {
  constexpr int rows = N == 2 ? pairRows : singleRows;
  for (long token = 0; token < b.count; token += rows)
    scoreRun<Pairs, N, rows, Parts>(g, b.row(token, g.pitch), columns, scores + token * (W / Parts), ahead);
}

template <bool Pairs, int Parts>
void scoreAll(const Group& g, const BlockRows& b, Ahead& ahead) {
  const long stride = latentBlock * g.lanes;
  const long panel = panelCols * (g.pitch / Parts);
  for (long v = 0; v < g.vectors;) {
    const float* columns = g.columns + v / 2 * panel + v % 2 * W;
    float* scores = g.scores + v * stride;
    // Sums of fewer tokens than parts would not fill a vector.
    if constexpr (Parts <= pairRows)
      if (v + 1 < g.vectors) {
        scoreVectors<Pairs, 2, Parts>(g, b, columns, scores, ahead);
        v += 2;
        continue;
      }
    scoreVectors<Pairs, 1, Parts>(g, b, columns, scores, ahead);
    v += 1;
  }
}

// — probabilities —

#if defined(BALEEN_AVX512BF16)
/** Which halves of two packed vectors of `lanes` heads a token make pairs of tokens by head. */
struct PairOrder {
  alignas(64) uint16_t half[32];
};
constexpr PairOrder makePairOrder(int lanes, int apart) {
  PairOrder order{};
  for (int w = 0; w < 16; w += 1) {
    order.half[2 * w] = static_cast<uint16_t>(2 * (w / lanes) * lanes + w % lanes);
    order.half[2 * w + 1] = static_cast<uint16_t>(order.half[2 * w] + apart);
  }
  return order;
}
template <int Lanes>
inline constexpr PairOrder pairOrder = makePairOrder(Lanes, Lanes);
/** The first 16 columns of two rows, in two vectors. */
inline constexpr PairOrder columnOrder = makePairOrder(16, 32);
#endif

/** What one head has, in the lanes of all parts. */
template <int Lanes, class Fold>
vf foldParts(vf x, Fold fold) {
  if constexpr (Lanes == W) return x;
  alignas(64) float lane[W];
  store(lane, x);
  for (int l = Lanes; l < W; l += 1) lane[l % Lanes] = fold(lane[l % Lanes], lane[l]);
  return repeat<Lanes>(lane);
}

/** Probabilities of vector v over `padded` tokens, of which it sees the first `seen`. */
template <bool Pairs, int Parts>
void probabilities(const Group& g, long v, long padded, long seen, float factor, bool low, bool onto) {
  constexpr int lanes = W / Parts;
  float* scores = g.scores + v * latentBlock * lanes;
  for (long i = seen * lanes; i < padded * lanes; i += 1) scores[i] = -INFINITY;
  const long size = padded * lanes;
  vf top = set1(-INFINITY);
  for (long i = 0; i < size; i += W) top = max(load(scores + i), top);
  top = mul(foldParts<lanes>(top, [](float a, float b) { return a > b ? a : b; }), set1(factor));
  // The lowest number stands for nothing seen yet: less than it there is only −∞, whose power is zero.
  const vf before = onto ? load(g.tops + v * W) : set1(-3.0e38f);
  const vf now = max(top, before);
  const vf shrink = onto ? exp2(sub(before, now)) : set1(0);
  store(g.tops + v * W, now);
  store(g.shrink + v * W, shrink);
  vf total = onto ? mul(load(g.totals + v * W), shrink) : set1(0);
  const vf shift = sub(set1(0), now);
  const auto power = [&](long i) {
    const vf p = exp2(fma(load(scores + i), set1(factor), shift));
    total = add(total, p);
    return p;
  };
#if defined(BALEEN_AVX512BF16)
  if constexpr (Pairs) {
    float* out = g.probabilities + v * probabilityWords<Pairs>(lanes);
    const vi order = _mm512_load_si512(pairOrder<lanes>.half);
    for (long i = 0; i < size; i += 2 * W) {
      const vf first = power(i);
      store(out + i / 2, asFloat(_mm512_permutexvar_epi16(order, asInt(pairsOf(first, power(i + W))))));
    }
    store(g.totals + v * W, total);
    return;
  }
#endif
  for (long i = 0; i < size; i += W) {
    const vf p = power(i);
    store(scores + i, low ? roundedBf16(p) : p);
  }
  store(g.totals + v * W, total);
}

// — probabilities times latents —

/** Columns [c, c + panelCols) of a block's latents, one pair of tokens (or token) after another. */
template <bool Pairs>
class Columns {
 public:
  Columns(const Group& g, const BlockRows& b, long c) : rows_(b), pitch_(g.pitch), c_(c) {}

  /** N vectors of the next ones. */
  template <int N>
  void next(vf* columns) {
#if defined(BALEEN_AVX512BF16)
    if constexpr (Pairs) {
      const float* row = rows_.row(token_, pitch_) + c_ / 2;
      const vi even = asInt(load(row));
      const vi odd = asInt(load(row + pitch_));
      columns[0] = asFloat(_mm512_permutex2var_epi16(even, first_, odd));
      if constexpr (N > 1) columns[1] = asFloat(_mm512_permutex2var_epi16(even, second_, odd));
      token_ += 2;
      return;
    }
#endif
    const float* row = rows_.row(token_, pitch_) + c_;
#pragma GCC unroll 2
    for (int n = 0; n < N; n += 1) columns[n] = load(row + n * W);
    token_ += 1;
  }

 private:
  const BlockRows& rows_;
  const long pitch_;
  const long c_;
  long token_ = 0;
#if defined(BALEEN_AVX512BF16)
  const vi first_ = _mm512_load_si512(columnOrder.half);
  const vi second_ = _mm512_add_epi16(first_, _mm512_set1_epi16(16));
#endif
};

/** A panel of columns for several tiles: [pair or token][column]. */
template <bool Pairs>
void packPanel(Columns<Pairs> columns, long steps, float* out) {
  for (long step = 0; step < steps; step += 1, out += panelCols) {
    vf two[2];
    columns.template next<2>(two);
    store(out, two[0]);
    store(out + W, two[1]);
  }
}

/** Adds what columns of latents bring to a tile of heads, from head h of vector v on. */
template <bool Pairs, int Rows, int N, class Next, class Each>
void addTile(const Group& g, long v, long h, long c, long steps, bool onto, Next&& next, Each&& each) {
  const float* p = g.probabilities + v * (Pairs ? probabilityWords<Pairs>(g.lanes) : latentBlock * g.lanes);
  float* at = g.sums + (v * g.lanes + h) * g.sumsPitch + c;
  const float* shrink = g.shrink + v * W + h;
  const auto begin = [&](int r, int n) {
    return onto ? mul(load(at + r * g.sumsPitch + n * W), set1(shrink[r])) : set1(0);
  };
  const auto end = [&](int r, int n, vf x) { store(at + r * g.sumsPitch + n * W, x); };
  tileOf<N, Pairs, Rows>({p + h, 1, g.lanes}, next, steps, begin, end, each);
}

/** The same for all heads and N vectors of columns. Heads that are one tile take columns as they are made. */
template <bool Pairs, int Rows, int N>
void addColumns(const Group& g, const BlockRows& b, long c, bool onto, Ahead& ahead) {
  Columns<Pairs> columns(g, b, c);
  const long steps = wordsOf<Pairs>(b.count);
  if (g.vectors * g.lanes == Rows) {
    // So few heads must fetch faster than a line a step to be done with the block by its end.
    bool second = false;
    const auto each = [&] {
      ahead();
      if (second) ahead();
      second = !second;
    };
    addTile<Pairs, Rows, N>(g, 0, 0, c, steps, onto, [&](vf* out) { columns.template next<N>(out); }, each);
    return;
  }
  packPanel<Pairs>(columns, steps, g.panel);
  for (long v = 0; v < g.vectors; v += 1)
    for (long h = 0; h < g.lanes; h += Rows) {
      const float* panel = g.panel;
      const auto next = [&](vf* out) {
#pragma GCC unroll 2
        for (int n = 0; n < N; n += 1) out[n] = load(panel + n * W);
        panel += panelCols;
      };
      addTile<Pairs, Rows, N>(g, v, h, c, steps, onto, next, ahead);
    }
}

template <bool Pairs, int Parts>
void attendParts(const Group& g, const LatentShape& s, const BlockRows& b, const long* visible, bool onto,
                 Ahead& ahead) {
  constexpr int lanes = W / Parts;
  constexpr int rows = lanes < stripRows ? lanes : stripRows;
  ahead.begin();
  scoreAll<Pairs, Parts>(g, b, ahead);
  // Whole pairs of vectors.
  const long padded = roundUp(b.count, 2 * Parts);
  for (long v = 0; v < g.vectors; v += 1)
    probabilities<Pairs, Parts>(g, v, padded, visible[v], s.scale * log2e, s.low, onto);
  for (long c = 0; c < s.rank; c += panelCols) {
    if (s.rank - c > W) {
      addColumns<Pairs, rows, 2>(g, b, c, onto, ahead);
    } else {
      addColumns<Pairs, rows, 1>(g, b, c, onto, ahead);
    }
  }
}

}  // namespace

template <bool Pairs>
void attendBlock(const Group& g, const LatentShape& s, const BlockRows& rows, const long* visible, bool onto,
                 Ahead& ahead) {
  switch (g.parts) {
    case 1: return attendParts<Pairs, 1>(g, s, rows, visible, onto, ahead);
    case 2: return attendParts<Pairs, 2>(g, s, rows, visible, onto, ahead);
    case 4: return attendParts<Pairs, 4>(g, s, rows, visible, onto, ahead);
#if defined(BALEEN_AVX512) || defined(BALEEN_AVX2)
    case 8: return attendParts<Pairs, 8>(g, s, rows, visible, onto, ahead);
#endif
#if defined(BALEEN_AVX512)
    case 16: return attendParts<Pairs, 16>(g, s, rows, visible, onto, ahead);
#endif
  }
}

template void attendBlock<false>(const Group&, const LatentShape&, const BlockRows&, const long*, bool, Ahead&);
#if defined(BALEEN_AVX512BF16)
template void attendBlock<true>(const Group&, const LatentShape&, const BlockRows&, const long*, bool, Ahead&);
#endif

}  // namespace BALEEN_ISA
}  // namespace baleen
