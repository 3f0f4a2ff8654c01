// Node-limited top-k (§2.1.2): W tokens at a time, a lane each, so that every comparison serves W tokens and nothing
// branches on what it finds.
//
// Scores become integers that order as the numbers do (and −0 as +0). A token's best so far are a sorted list of keys and
// one of experts; experts come in ascending order and only a greater key passes another, so ties stay with the lower index.
#include "../elements.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

struct TopK {
  const float *scores, *bias;
  int32_t* indices;
  long tokens, experts, k, groups, groupsKept, groupBest;
};

/** Memory of a thread: rows of W numbers, one a lane. */
struct Lanes {
  /** Scores by expert, then their keys. */
  float* values;
  /** Score of each group, then how many groups are ahead of it. */
  float* groups;
  /** The best keys and experts, where there are too many for registers. */
  float *best, *ids;
};

static inline vi loadInt(const float* p) { return asInt(load(p)); }
static inline void storeInt(float* p, vi x) { store(p, asFloat(x)); }

/** Integers in the order of the numbers: those of negative numbers count down. */
static inline vi keyOf(vf x) {
  const vi bits = asInt(add(x, set1(0)));
  return selectGreater(set1i(0), bits, subi(set1i(0x7fffffff), bits), bits);
}

/** Transposes the scores of tokens t … t + W − 1 (the last one again where they end) and adds the bias; NaN becomes −∞. */
static void gatherScores(float* values, const TopK& s, long t) {
  for (long lane = 0; lane < W; lane += 1) {
    const float* row = s.scores + minOf(t + lane, s.tokens - 1) * s.experts;
    for (long e = 0; e < s.experts; e += 1) values[e * W + lane] = row[e];
  }
  for (long e = 0; e < s.experts; e += 1) {
    const vf biased = add(load(values + e * W), set1(s.bias != nullptr ? s.bias[e] : 0));
    store(values + e * W, max(biased, set1(-INFINITY)));
  }
}

/** Σ of the `count` best of a group, the best first; `best` holds that many. */
static vf sumOfBest(const float* own, long size, long count, float* best) {
  for (long j = 0; j < count; j += 1) store(best + j * W, set1(-INFINITY));
  for (long e = 0; e < size; e += 1) {
    vf v = load(own + e * W);
    for (long j = 0; j < count; j += 1) {
      const vf here = load(best + j * W);
      store(best + j * W, max(here, v));
      v = min(here, v);
    }
  }
  vf sum = load(best);
  for (long j = 1; j < count; j += 1) sum = add(sum, load(best + j * W));
  return sum;
}

/** How many groups come before each: those of a higher score (Σ of its best), and of an equal one to the left. */
static void rankGroups(float* ranks, float* scores, const float* values, float* best, const TopK& s) {
  const long size = s.experts / s.groups;
  for (long g = 0; g < s.groups; g += 1) {
    const float* own = values + g * size * W;
    vf score = load(own);
    if (s.groupBest == 2 && size > 1) {
      vf second = set1(-INFINITY);
      for (long e = 1; e < size; e += 1) {
        const vf v = load(own + e * W);
        second = max(second, min(score, v));
        score = max(score, v);
      }
      score = add(score, second);
    } else if (size > 1) {
      score = sumOfBest(own, size, minOf(size, s.groupBest), best);
    }
    // Infinities of both signs have no sum.
    storeInt(scores + g * W, keyOf(max(score, set1(-INFINITY))));
  }
  for (long g = 0; g < s.groups; g += 1) {
    const vi own = loadInt(scores + g * W);
    vi ahead = set1i(0);
    for (long h = 0; h < s.groups; h += 1) {
      const vi bar = h < g ? subi(own, set1i(1)) : own;
      ahead = addi(ahead, selectGreater(loadInt(scores + h * W), bar, set1i(1), set1i(0)));
    }
    storeInt(ranks + g * W, ahead);
  }
}

/** Scores to keys; those of groups that are not kept to one below that of −∞. */
static void makeKeys(float* values, const float* ranks, const TopK& s) {
  const vi lowest = set1i(INT32_MIN + 1);
  const long size = s.experts / s.groups;
  for (long g = 0; g < s.groups; g += 1)
    for (long e = g * size; e < (g + 1) * size; e += 1) {
      vi key = keyOf(load(values + e * W));
      if (ranks != nullptr)
        key = selectGreater(set1i(static_cast<int>(s.groupsKept)), loadInt(ranks + g * W), key, lowest);
      storeInt(values + e * W, key);
    }
}

/** Inserts every expert into the list of the K best; K = 0: of k, kept in memory. */
template <int K>
static void choose(const TopK& s, const Lanes& lanes, long t) {
  constexpr int inRegisters = K > 0 ? K : 1;
  vi ownBest[inRegisters], ownIds[inRegisters];
  const int k = K > 0 ? K : static_cast<int>(s.k);
  const auto best = [&](int j) { return K > 0 ? ownBest[j] : loadInt(lanes.best + j * W); };
  const auto id = [&](int j) { return K > 0 ? ownIds[j] : loadInt(lanes.ids + j * W); };
  const auto put = [&](int j, vi key, vi expert) {
    if (K > 0) {
      ownBest[j] = key;
      ownIds[j] = expert;
    } else {
      storeInt(lanes.best + j * W, key);
      storeInt(lanes.ids + j * W, expert);
    }
  };
  // Below the key of −∞: nothing yet.
  for (int j = 0; j < k; j += 1) put(j, set1i(INT32_MIN), set1i(0));
  for (long e = 0; e < s.experts; e += 1) {
    const vi key = loadInt(lanes.values + e * W);
    const vi expert = set1i(static_cast<int>(e));
    // From the last place up: where the expert passes place j, that takes what stood at j − 1, or the expert itself if
    // it does not pass that one too.
    for (int j = k - 1; j > 0; j -= 1) {
      const vi above = best(j - 1);
      const vi comes = selectGreater(key, above, above, key);
      const vi who = selectGreater(key, above, id(j - 1), expert);
      const vi here = best(j);
      put(j, selectGreater(key, here, comes, here), selectGreater(key, here, who, id(j)));
    }
    const vi top = best(0);
    put(0, selectGreater(key, top, key, top), selectGreater(key, top, expert, id(0)));
  }
  const long count = minOf(W, s.tokens - t);
  for (int j = 0; j < k; j += 1) {
    int32_t ids[W];
    const vi chosen = id(j);
    memcpy(ids, &chosen, sizeof ids);
    for (long lane = 0; lane < count; lane += 1) s.indices[(t + lane) * k + j] = ids[lane];
  }
}

void topK(Args args) {
  const View indices = args.view();
  const View scores = args.view();
  const View bias = args.view();
  TopK s;
  s.tokens = args.integer();
  s.experts = args.integer();
  s.k = args.integer();
  s.groups = args.integer();
  s.groupsKept = args.integer();
  s.groupBest = args.integer();
  if (s.groupBest < 1) s.groupBest = 2;
  s.scores = scores.f32();
  s.bias = bias.f32();
  s.indices = indices.i32();
  if (s.experts <= 0 || s.k <= 0) return;
  const auto pick = s.k == 1   ? &choose<1>
                    : s.k == 2 ? &choose<2>
                    : s.k == 3 ? &choose<3>
                    : s.k == 4 ? &choose<4>
                    : s.k == 6 ? &choose<6>
                    : s.k == 8 ? &choose<8>
                               : &choose<0>;
  const bool limited = s.groupsKept < s.groups;
  // An expert costs about a nanosecond a token.
  parallelRanges(s.tokens, maxOf(W, 8192 / s.experts), W, [&](long begin, long end) {
    const long rows = s.experts + 2 * s.groups + 2 * s.k + minOf(s.groupBest, s.experts / s.groups);
    Lanes lanes;
    lanes.values = static_cast<float*>(
        scratch(Scratch::first, static_cast<size_t>(rows * W) * sizeof(float)));
    lanes.groups = lanes.values + s.experts * W;
    lanes.best = lanes.groups + 2 * s.groups * W;
    lanes.ids = lanes.best + s.k * W;
    float* ranks = lanes.groups + s.groups * W;
    float* groupBest = lanes.ids + s.k * W;
    for (long t = begin; t < end; t += W) {
      gatherScores(lanes.values, s, t);
      if (limited) rankGroups(ranks, lanes.groups, lanes.values, groupBest, s);
      makeKeys(lanes.values, limited ? ranks : nullptr, s);
      pick(s, lanes, t);
    }
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
