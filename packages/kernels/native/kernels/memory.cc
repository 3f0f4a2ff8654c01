// Filling, copying, casting and plain element-wise arithmetic. All of it waits for memory; threads are used because one
// core alone rarely saturates it.
#include "../elements.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

// Elements a thread takes at least, where each costs next to nothing.
static constexpr long grain = 16384;

void fill(Args args) {
  const View out = args.view();
  const double value = args.number();
  if (out.dtype == DType::bf16) {
    const vf x = set1(static_cast<float>(value));
    forElements(out.size, 4 * grain, [&](auto at, long i) { at.store(out.bf16() + i, x); });
    return;
  }
  // FP32 and I32 alike: 32 bits everywhere.
  vf x = set1(static_cast<float>(value));
  if (out.dtype == DType::i32)
    x = asFloat(set1i(static_cast<int32_t>(static_cast<int64_t>(value))));
  forElements(out.size, 4 * grain, [&](auto at, long i) { at.store(out.f32() + i, x); });
}

/** Copies bytes past the caches: whole vectors from where one begins in the output, the rest around them. */
static void copyPast(char* to, const char* from, long bytes) {
  const long before = minOf(bytes, -reinterpret_cast<intptr_t>(to) & 63);
  memcpy(to, from, static_cast<size_t>(before));
  long at = before;
  for (; at + 4 * W <= bytes; at += 4 * W)
    storePast(reinterpret_cast<float*>(to + at), load(reinterpret_cast<const float*>(from + at)));
  memcpy(to + at, from + at, static_cast<size_t>(bytes - at));
  drain();
}

void copy(Args args) {
  const View out = args.view();
  const View x = args.view();
  const bool past = args.flag();
  const char* from = static_cast<const char*>(x.data);
  char* to = static_cast<char*>(out.data);
  parallelRanges(out.size * elementBytes(out.dtype), 4 * grain, 64, [&](long begin, long end) {
    if (past)
      copyPast(to + begin, from + begin, end - begin);
    else
      memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
  });
}

void cast(Args args) {
  const View out = args.view();
  const View x = args.view();
  if (out.dtype == DType::bf16)
    forElements(out.size, grain,
                [&](auto at, long i) { at.store(out.bf16() + i, at.load(x.f32() + i)); });
  else
    forElements(out.size, grain,
                [&](auto at, long i) { at.store(out.f32() + i, at.load(x.bf16() + i)); });
}

struct Strides {
  long rows, cols, out, x;
  bool accumulate;
};

/** Rows of one pair of types. Most are short (a head's width), so nothing is set up for each. */
template <class To, class From>
static void copyRows(To* out, const From* x, const Strides& s) {
  parallelRanges(s.rows, rowGrain(s.cols), 1, [&](long begin, long end) {
    To* to = out + begin * s.out;
    const From* from = x + begin * s.x;
    for (long r = begin; r < end; r += 1, to += s.out, from += s.x)
      forRange(0, s.cols, [&](auto at, long c) { at.store(to + c, at.load(from + c)); });
  });
}

/** Between rows of the same type: bit for bit, a BF16 NaN included. */
static void copyRowsOfHalves(uint16_t* out, const uint16_t* x, const Strides& s) {
  parallelRanges(s.rows, rowGrain(s.cols), 1, [&](long begin, long end) {
    for (long r = begin; r < end; r += 1)
      memcpy(out + r * s.out, x + r * s.x, static_cast<size_t>(s.cols) * 2);
  });
}

static void addRows(float* out, const float* x, const Strides& s) {
  parallelRanges(s.rows, rowGrain(s.cols), 1, [&](long begin, long end) {
    float* to = out + begin * s.out;
    const float* from = x + begin * s.x;
    for (long r = begin; r < end; r += 1, to += s.out, from += s.x)
      forRange(0, s.cols, [&](auto at, long c) {
        at.store(to + c, add(at.load(to + c), at.load(from + c)));
      });
  });
}

void copyStrided(Args args) {
  const View out = args.view();
  const View x = args.view();
  Strides s;
  s.rows = args.integer();
  s.cols = args.integer();
  s.out = args.integer();
  const long outOffset = args.integer();
  s.x = args.integer();
  const long xOffset = args.integer();
  s.accumulate = args.flag();
  if (s.rows <= 0 || s.cols <= 0) return;
  // Rows that follow one another on both sides are one long row, which splits among threads as elements.
  const bool dense = s.out == s.cols && s.x == s.cols;
  const bool fromHalves = x.dtype == DType::bf16;
  const bool toHalves = out.dtype == DType::bf16;
  float* to = out.f32() + outOffset;
  uint16_t* toBf = out.bf16() + outOffset;
  const float* from = x.f32() + xOffset;
  const uint16_t* fromBf = x.bf16() + xOffset;
  if (dense && !fromHalves && !toHalves) {
    forElements(s.rows * s.cols, grain, [&](auto at, long i) {
      const vf value = at.load(from + i);
      at.store(to + i, s.accumulate ? add(at.load(to + i), value) : value);
    });
  } else if (s.accumulate) {
    addRows(to, from, s);
  } else if (fromHalves && toHalves) {
    copyRowsOfHalves(toBf, fromBf, s);
  } else if (fromHalves) {
    copyRows(to, fromBf, s);
  } else if (toHalves) {
    copyRows(toBf, from, s);
  } else {
    copyRows(to, from, s);
  }
}

void add(Args args) {
  const View out = args.view();
  const View a = args.view();
  const View b = args.view();
  if (out.dtype == DType::i32)
    forElements(out.size, grain, [&](auto at, long i) {
      const vi sum = addi(asInt(at.load(a.f32() + i)), asInt(at.load(b.f32() + i)));
      at.store(out.f32() + i, asFloat(sum));
    });
  else
    forElements(out.size, grain, [&](auto at, long i) {
      at.store(out.f32() + i, add(at.load(a.f32() + i), at.load(b.f32() + i)));
    });
}

void scale(Args args) {
  const View out = args.view();
  const View x = args.view();
  const vf factor = set1(static_cast<float>(args.number()));
  forElements(out.size, grain, [&](auto at, long i) {
    at.store(out.f32() + i, mul(at.load(x.f32() + i), factor));
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
