// Moving tokens to their experts' rows and back (§2.1.2). Rows are long and in no order, so memory is read whole rows at
// a time and each output row is written once.
#include "../elements.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

/** Zeros where a row has no slot. */
static inline void clearRow(char* to, long bytes) { memset(to, 0, static_cast<size_t>(bytes)); }

/** Rows of a few bytes, such as the scales of a token's codes: one move of a size that the compiler knows. */
template <long Bytes>
static void gatherFixed(char* out, const char* x, const int32_t* slots, uint32_t k, long begin,
                        long end) {
  for (long r = begin; r < end; r += 1) {
    char* to = out + r * Bytes;
    if (slots[r] < 0)
      clearRow(to, Bytes);
    else
      memcpy(to, x + static_cast<long>(static_cast<uint32_t>(slots[r]) / k) * Bytes, Bytes);
  }
}

// From so many bytes on, rows are written past the caches: who reads them next would find only the last ones there, and a plain
// store fetches each line first.
static constexpr long pastCaches = 16 << 20;

/** Elements from `to` on that lie before a whole vector of it. */
static inline long aheadOf(const float* to) {
  return (-static_cast<long>(reinterpret_cast<uintptr_t>(to) / sizeof(float))) & (W - 1);
}

/** memcpy, past the caches where whole vectors of `to` are. */
static void copyPast(char* to, const char* from, long bytes) {
  constexpr long vector = W * static_cast<long>(sizeof(float));
  const long ahead = static_cast<long>(reinterpret_cast<uintptr_t>(to) % vector);
  long i = minOf(bytes, (vector - ahead) % vector);
  memcpy(to, from, static_cast<size_t>(i));
  for (; i + vector <= bytes; i += vector)
    storePast(reinterpret_cast<float*>(to + i), load(reinterpret_cast<const float*>(from + i)));
  memcpy(to + i, from + i, static_cast<size_t>(bytes - i));
}

void permute(Args args) {
  const View out = args.view();
  const View x = args.view();
  const View slotOfRow = args.view();
  const long rows = args.integer();
  const uint32_t k = static_cast<uint32_t>(args.integer());
  const long cols = args.integer();
  const long width = cols * elementBytes(x.dtype);
  char* to = static_cast<char*>(out.data);
  const char* from = static_cast<const char*>(x.data);
  const int32_t* slots = slotOfRow.i32();
  parallelRanges(rows, rowGrain(maxOf(4, width / 4)), 1, [&](long begin, long end) {
    switch (width) {
      case 4: return gatherFixed<4>(to, from, slots, k, begin, end);
      case 8: return gatherFixed<8>(to, from, slots, k, begin, end);
      case 16: return gatherFixed<16>(to, from, slots, k, begin, end);
      case 32: return gatherFixed<32>(to, from, slots, k, begin, end);
      case 64: return gatherFixed<64>(to, from, slots, k, begin, end);
      case 128: return gatherFixed<128>(to, from, slots, k, begin, end);
    }
    const bool past = rows * width >= pastCaches;
    for (long r = begin; r < end; r += 1) {
      const long token = static_cast<uint32_t>(slots[r]) / k;
      if (slots[r] < 0)
        clearRow(to + r * width, width);
      else if (past)
        copyPast(to + r * width, from + token * width, width);
      else
        memcpy(to + r * width, from + token * width, static_cast<size_t>(width));
    }
    if (past) drain();
  });
}

struct Unpermute {
  float* out;
  const float *y, *weights;
  const int32_t* rows;
  long k, cols;
  bool accumulate;
};

/** `Vectors` vectors of one token's row at column c: Σⱼ fl(wⱼ · yⱼ), j ascending, from zero. */
template <int Vectors, class At>
static inline void gatherSum(At at, const Unpermute& u, long t, long c) {
  vf sums[Vectors];
  for (int i = 0; i < Vectors; i += 1) sums[i] = set1(0);
  const int32_t* rows = u.rows + t * u.k;
  for (long j = 0; j < u.k; j += 1) {
    const float* y = u.y + rows[j] * u.cols + c;
    const vf weight = set1(u.weights != nullptr ? u.weights[t * u.k + j] : 1.0f);
    for (int i = 0; i < Vectors; i += 1) sums[i] = add(sums[i], mul(weight, at.load(y + i * W)));
  }
  float* out = u.out + t * u.cols + c;
  for (int i = 0; i < Vectors; i += 1)
    at.store(out + i * W, u.accumulate ? add(at.load(out + i * W), sums[i]) : sums[i]);
}

/** A token's row from column c on, `Vectors` vectors of each of its rows at a time as long as there are so many. */
template <int Vectors, class At>
static inline void gatherRow(At at, const Unpermute& u, long t, long c) {
  for (; c + Vectors * W <= u.cols; c += Vectors * W) gatherSum<Vectors>(at, u, t, c);
  for (; c + 2 * W <= u.cols; c += 2 * W) gatherSum<2>(at, u, t, c);
  for (; c + W <= u.cols; c += W) gatherSum<1>(at, u, t, c);
  if (c < u.cols) gatherSum<1>(Part{u.cols - c}, u, t, c);
}

/** The same past the caches. Of rows that come from memory it takes little at a time: lines of wide rows share sets of L1. */
static inline void gatherRowPast(const Unpermute& u, long t) {
  const long ahead = minOf(aheadOf(u.out + t * u.cols), u.cols);
  if (ahead > 0) gatherSum<1>(Part{ahead}, u, t, 0);
  gatherRow<2>(Past{}, u, t, ahead);
}

void unpermute(Args args) {
  const View out = args.view();
  const View y = args.view();
  const View rowOfSlot = args.view();
  const View weights = args.view();
  const long tokens = args.integer();
  Unpermute u;
  u.out = out.f32();
  u.y = y.f32();
  u.rows = rowOfSlot.i32();
  u.weights = weights.f32();
  u.k = args.integer();
  u.cols = args.integer();
  u.accumulate = args.flag();
  const bool past = tokens * u.k * u.cols * static_cast<long>(sizeof(float)) >= 4 * pastCaches;
  parallelRanges(tokens, rowGrain(u.cols * (u.k + 1)), 1, [&](long begin, long end) {
    for (long t = begin; t < end; t += 1) {
      if (past)
        gatherRowPast(u, t);
      else
        gatherRow<8>(Whole{}, u, t, 0);
    }
    if (past) drain();
  });
}

void unpermuteBackward(Args args) {
  const View dy = args.view();
  const View dweights = args.view();
  const View dout = args.view();
  const View y = args.view();
  const View weights = args.view();
  const View rowOfSlot = args.view();
  const long tokens = args.integer();
  const long k = args.integer();
  const long cols = args.integer();
  // Padding belongs to no slot.
  if (dy.size > tokens * k * cols) memset(dy.data, 0, static_cast<size_t>(dy.size) * sizeof(float));
  parallelRanges(tokens, rowGrain(cols * (2 * k + 1)), 1, [&](long begin, long end) {
    for (long slot = begin * k; slot < end * k; slot += 1) {
      const long row = rowOfSlot.i32()[slot];
      const float* grad = dout.f32() + slot / k * cols;
      const float* value = y.f32() + row * cols;
      float* dvalue = dy.f32() + row * cols;
      const vf weight = set1(weights.f32()[slot]);
      dweights.f32()[slot] = sumRow(cols, [&](auto at, long c) {
        const vf g = at.load(grad + c);
        at.store(dvalue + c, mul(weight, g));
        return mul(g, at.load(value + c));
      });
    }
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
