// One block of cached tokens with a group of queries: scores, probabilities, and what they add to the sums (see
// latent-attention.cc, which goes through blocks).
//
// Heads lie in the lanes of vectors, so that a token's row is read as it lies in the pool: each of its words meets all heads
// at once, and what the softmax needs of a head stands in one lane. A vector holds heads of one query. Fewer than W heads
// leave lanes free: then 2, 4, … neighbouring words of the row stand side by side (`parts`), each lane sums its own, and the
// sums of a head are added in the end. How lanes are used depends on the number of heads alone, and so do results.
#pragma once
#include "attention.h"
#include "latents.h"

namespace baleen {
namespace BALEEN_ISA {

/** Tokens that are located, or unpacked, at once: a page holds a whole number of such runs, or they are unpacked. */
constexpr long tokenRun = 16;
/** Most tokens of a block: probabilities and the latents' columns that they meet stay in the first-level cache. */
constexpr long latentBlock = 128;
/**
 * Tokens of a block for one vector of heads, who do so little with a token that waiting for memory counts: in BF16 a block
 * stays in the first-level cache between its two products, whose reads would else stand in line behind the lines that are
 * fetched ahead. More heads rather shrink and write their sums less often.
 */
constexpr long smallBlock = 32;
/** Rows of a tile with two vectors of heads, and with one: about as many sums. */
constexpr int pairRows = stripRows;
constexpr int singleRows = 2 * stripRows;

struct LatentShape {
  long sequences, queries, heads, rank, rope, pages, pageSize, tableWidth;
  float scale;
  /** The pool is not FP32: products take BF16. */
  bool low;

  long width() const { return rank + rope; }
  /** Heads in a vector, and words of a row beside each other. */
  long lanes() const {
    long lanes = 1;
    while (lanes < heads && lanes < W) lanes *= 2;
    return lanes;
  }
  long parts() const { return W / lanes(); }
  /** Vectors of a query. */
  long vectors() const { return ceilDiv(heads, W); }
  /** Tokens of a block: by the heads alone, as results must. */
  long block() const { return vectors() == 1 ? smallBlock : latentBlock; }
};

/** Words of a packed row, behind which a vector more may be read. */
template <bool Pairs>
long rowPitch(const LatentShape& s) {
  return pitchOf<Pairs>(s.width());
}
/** Words from one vector of probabilities to the next: [pair or token][head]. */
template <bool Pairs>
constexpr long probabilityWords(long lanes) {
  return wordsOf<Pairs>(latentBlock) * lanes;
}

/** A group's memory: pitches in words. */
struct Group {
  long pitch, sumsPitch, lanes, parts;
  /** Vectors, and which query each is of. */
  long vectors;
  long firstVector;
  /** Queries as columns: [pair of vectors][step][panelCols]. */
  float* columns;
  /** Rows being packed or unpacked, a block's probabilities, one panel of its latents. */
  float* rows;
  float* scores;
  float* probabilities;
  float* panel;
  /** Σ p · latent [vector][head][rank], Σ p [vector][lane], the largest score · scale · log₂ e [vector][head]. */
  float* sums;
  float* totals;
  float* tops;
  /** By what the sums shrink with this block [vector][head]. */
  float* shrink;
};

template <bool Pairs>
long layOutGroup(Group& g, float* memory, const LatentShape& s, long vectors) {
  Carver carver(memory);
  g.lanes = s.lanes();
  g.parts = s.parts();
  g.vectors = vectors;
  g.pitch = rowPitch<Pairs>(s);
  g.sumsPitch = roundUp(s.rank, panelCols);
  g.columns = carver.take(roundUp(vectors, 2) * W * g.pitch / g.parts);
  g.rows = carver.take(maxOf(latentBlock, panelCols) * g.pitch + 2 * panelCols);
  g.scores = carver.take(vectors * latentBlock * g.lanes);
  g.probabilities = Pairs ? carver.take(vectors * probabilityWords<Pairs>(g.lanes)) : g.scores;
  g.panel = carver.take(wordsOf<Pairs>(latentBlock) * panelCols);
  g.sums = carver.take(vectors * g.lanes * g.sumsPitch);
  g.totals = carver.take(vectors * W);
  g.tops = carver.take(vectors * W);
  g.shrink = carver.take(vectors * W);
  return carver.used();
}

/** A block's rows: where each run of tokens lies, and how many tokens there are. */
struct BlockRows {
  const float* runs[latentBlock / tokenRun];
  long count;

  const float* row(long token, long pitch) const { return runs[token / tokenRun] + token % tokenRun * pitch; }
};

/**
 * Memory that the next block reads, fetched a line at a time beside this block's products: so that waiting for memory and
 * multiplying go on together from one end of a block to the other.
 */
class Ahead {
 public:
  void clear() {
    count_ = 0;
    at_ = end_ = nullptr;
  }
  /** Bytes that lie one after another; no more than `latentBlock` times. */
  void add(const char* from, long bytes) {
    if (count_ > 0 && ends_[count_ - 1] == from) {
      ends_[count_ - 1] = from + bytes;
    } else {
      begins_[count_] = from;
      ends_[count_] = from + bytes;
      count_ += 1;
    }
  }
  void begin() {
    next_ = 0;
    at_ = end_ = nullptr;
  }
  void operator()() {
    if (at_ >= end_) {
      if (next_ == count_) return;
      at_ = begins_[next_];
      end_ = ends_[next_];
      next_ += 1;
    }
    __builtin_prefetch(at_, 0, 2);
    at_ += 64;
  }

 private:
  const char* at_;
  const char* end_;
  long next_;
  long count_;
  const char* begins_[latentBlock];
  const char* ends_[latentBlock];
};

/** `visible[v]`: tokens of the block that vector v's query sees, of `rows.count`. */
template <bool Pairs>
void attendBlock(const Group& g, const LatentShape& s, const BlockRows& rows, const long* visible, bool onto,
                 Ahead& ahead);

}  // namespace BALEEN_ISA
}  // namespace baleen
