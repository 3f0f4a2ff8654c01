// Normalisation, activation and rotary embedding; the first two also with what they give encoded while it is near.
#include "../elements.h"
#include "../shuffle.h"
#include "encode.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

/** Rows whose numbers lie in the first-level cache together, at most `most`. */
static long rowsTogether(long cols, long most) {
  return maxOf(1, minOf(most, 4096 / maxOf(1, cols)));
}

/** Room for that many rows. */
static float* rowScratch(long rows, long cols) {
  return static_cast<float*>(
      scratch(Scratch::first, static_cast<size_t>(rows * cols) * sizeof(float)));
}

// — RMSNorm —

// Rows whose roots are taken together, at most.
static constexpr long normRows = 16;

struct Norm {
  const float *x, *weight;
  float* rstd;
  long cols;
  double epsilon;
};

/** At most `normRows` rows from `first` on; `out` is the first one's. */
static void normaliseRows(const Norm& n, float* out, long first, long count, bool past = false) {
  const long cols = n.cols;
  const float* weight = n.weight;
  const float* in = n.x + first * cols;
  float* roots = n.rstd + first;
  double means[normRows];
  for (long r = 0; r < count; r += 1) {
    const float squares = sumRow(cols, [&](auto at, long c) {
      const vf v = at.load(in + r * cols + c);
      return mul(v, v);
    });
    means[r] = static_cast<double>(squares);
  }
  for (long r = 0; r < count; r += 1)
    roots[r] = static_cast<float>(1 / ::sqrt(means[r] / static_cast<double>(cols) + n.epsilon));
  for (long r = 0; r < count; r += 1) {
    const vf factor = set1(roots[r]);
    const auto normed = [&](auto at, long c) {
      return mul(mul(at.load(in + r * cols + c), factor), at.load(weight + c));
    };
    float* to = out + r * cols;
    if (past)
      for (long c = 0; c < cols; c += W) Past{}.store(to + c, normed(Whole{}, c));
    else
      forRange(0, cols, [&](auto at, long c) { at.store(to + c, normed(at, c)); });
  }
}

/** Calls `body(first, count)` for rows whose roots are taken together, while their numbers are in the first-level cache. */
template <class Body>
static void forNormRows(long rows, long cols, bool past, Body&& body) {
  const long together = rowsTogether(cols, normRows);
  parallelRanges(rows, rowGrain(cols), 1, [&](long begin, long end) {
    for (long first = begin; first < end; first += together)
      body(first, minOf(together, end - first));
    if (past) drain();
  });
}

void rmsNorm(Args args) {
  const View y = args.view();
  const View rstd = args.view();
  const View x = args.view();
  const View weight = args.view();
  const long rows = args.integer();
  const long cols = args.integer();
  const Norm n = {x.f32(), weight.f32(), rstd.f32(), cols, args.number()};
  const bool past = goesPast(y.f32(), rows, cols);
  forNormRows(rows, cols, past, [&](long first, long count) {
    normaliseRows(n, y.f32() + first * cols, first, count, past);
  });
}

void rmsNormQuantize(Args args) {
  const Operand quantized = args.operand();
  const View y = args.view();
  const View rstd = args.view();
  const View x = args.view();
  const View weight = args.view();
  const long rows = args.integer();
  const long cols = args.integer();
  const Norm n = {x.f32(), weight.f32(), rstd.f32(), cols, args.number()};
  const Scaling scaling = {args.flag()};
  forNormRows(rows, cols, false, [&](long first, long count) {
    float* out = y ? y.f32() + first * cols : rowScratch(rowsTogether(cols, normRows), cols);
    normaliseRows(n, out, first, count);
    encodeRows(quantized, out, first, count, cols, scaling);
  });
}

// Rows whose dweight is summed together. Fixed, so that the sums do not depend on the number of threads.
static constexpr long normBlock = 32;

struct NormBackward {
  float* dx;
  const float *dy, *x, *weight, *rstd;
  long rows, cols;
};

/** One block of rows: their dx, and Σ dy · x̂ over them into `sums` [cols]. */
static void normBackwardBlock(const NormBackward& n, long block, float* sums) {
  const long first = block * normBlock;
  const long last = minOf(n.rows, first + normBlock);
  for (long r = first; r < last; r += 1) {
    const float* dy = n.dy + r * n.cols;
    const float* x = n.x + r * n.cols;
    float* dx = n.dx + r * n.cols;
    const vf s = set1(n.rstd[r]);
    const bool fresh = r == first;
    // Σ dy · weight · x̂, and on the way dweight's own terms.
    const float dot = sumRow(n.cols, [&](auto at, long c) {
      const vf term = mul(at.load(dy + c), mul(at.load(x + c), s));
      at.store(sums + c, fresh ? term : add(at.load(sums + c), term));
      return mul(term, at.load(n.weight + c));
    });
    // dx = rstd · (dy · weight − x̂ · mean(dy · weight · x̂))
    const vf mean = set1(dot / static_cast<float>(n.cols));
    forRange(0, n.cols, [&](auto at, long c) {
      const vf g = mul(at.load(dy + c), at.load(n.weight + c));
      const vf normed = mul(at.load(x + c), s);
      at.store(dx + c, mul(s, sub(g, mul(normed, mean))));
    });
  }
}

void rmsNormBackward(Args args) {
  const View dx = args.view();
  const View dweight = args.view();
  const View dy = args.view();
  const View x = args.view();
  const View weight = args.view();
  const View rstd = args.view();
  const long rows = args.integer();
  const long cols = args.integer();
  const NormBackward n = {dx.f32(),     dy.f32(),   x.f32(), weight.f32(),
                          rstd.f32(),   rows,       cols};
  if (rows <= 0 || cols <= 0) return;
  const long blocks = ceilDiv(rows, normBlock);
  float* sums = static_cast<float*>(
      scratch(Scratch::first, static_cast<size_t>(blocks * cols) * sizeof(float)));
  parallelRanges(blocks, maxOf(1, rowGrain(cols) / normBlock), 1, [&](long begin, long end) {
    for (long block = begin; block < end; block += 1)
      normBackwardBlock(n, block, sums + block * cols);
  });
  float* dw = dweight.f32();
  parallelRanges(cols, maxOf(64, 65536 / blocks), 64, [&](long begin, long end) {
    forRange(begin, end, [&](auto at, long c) {
      vf total = set1(0);
      for (long block = 0; block < blocks; block += 1)
        total = add(total, at.load(sums + block * cols + c));
      at.store(dw + c, add(at.load(dw + c), total));
    });
  });
}

// — SwiGLU and the sigmoid —

#if defined(BALEEN_AVX512)
static inline vf nearestInteger(vf x) { return _mm512_roundscale_ps(x, 8); }
/** x · 2ⁿ for an integer n. */
static inline vf timesTwoTo(vf x, vf n) { return _mm512_scalef_ps(x, n); }
#else
static inline vf nearestInteger(vf x) { return toFloat(roundToInt(x)); }
static inline vf timesTwoTo(vf x, vf integer) {
  // −126 ≤ n ≤ 254; ⌊n / 2⌋ and the rest, as exponents. Bits above the nine that remain do not matter.
  const vi n = roundToInt(integer);
  const vi low = shiftRight<1>(n);
  const vi high = subi(n, low);
  return mul(mul(x, asFloat(shiftLeft<23>(addi(low, set1i(127))))),
             asFloat(shiftLeft<23>(addi(high, set1i(127)))));
}
#endif

/**
 * 1 + e^−x. Unlike `exp` this needs no correction at its ends: far below, the 1 hides e^−x; far above, 2ⁿ is infinity.
 * NaN stays NaN. The polynomial is taken apart so that its steps need not wait for each other.
 */
static inline vf onePlusExpMinus(vf x) {
  const vf z = min(set1(176.0f), max(set1(-87.0f), sub(set1(0), x)));
  const vf n = nearestInteger(mul(z, set1(1.44269504f)));
  vf r = fma(n, set1(-0.693359375f), z);
  r = fma(n, set1(2.12194440e-4f), r);
  const vf square = mul(r, r);
  const vf low = fma(r, set1(1.66666667e-1f), set1(0.5f));
  const vf middle = fma(r, set1(8.33333333e-3f), set1(4.16666667e-2f));
  const vf high = fma(r, set1(1.98412698e-4f), set1(1.38888889e-3f));
  const vf upper = fma(fma(high, square, middle), square, low);
  const vf p = fma(upper, square, add(r, set1(1.0f)));
  return add(set1(1.0f), timesTwoTo(p, n));
}

// Elements a thread takes at least: an exponential and a division each.
static constexpr long grain = 4096;

/** Elements [begin, end). */
static void swigluRange(float* out, const float* gate, const float* up, long begin, long end) {
  forRange(begin, end, [&](auto at, long i) {
    const vf g = at.load(gate + i);
    at.store(out + i, mul(div(g, onePlusExpMinus(g)), at.load(up + i)));
  });
}

void swiglu(Args args) {
  const View out = args.view();
  const View gate = args.view();
  const View up = args.view();
  parallelRanges(out.size, grain, 64, [&](long begin, long end) {
    swigluRange(out.f32(), gate.f32(), up.f32(), begin, end);
  });
}

void swigluQuantize(Args args) {
  const Operand quantized = args.operand();
  const View gate = args.view();
  const View up = args.view();
  const long rows = args.integer();
  const long cols = args.integer();
  const Scaling scaling = {args.flag()};
  const long together = rowsTogether(cols, rows);
  parallelRanges(rows, maxOf(1, grain / maxOf(1, cols)), 1, [&](long begin, long end) {
    float* out = rowScratch(together, cols);
    for (long first = begin; first < end; first += together) {
      const long count = minOf(together, end - first);
      const long at = first * cols;
      swigluRange(out, gate.f32() + at, up.f32() + at, 0, count * cols);
      encodeRows(quantized, out, first, count, cols, scaling);
    }
  });
}

void swigluBackward(Args args) {
  const View dgate = args.view();
  const View dup = args.view();
  const View dout = args.view();
  const View gate = args.view();
  const View up = args.view();
  const vf one = set1(1.0f);
  forElements(gate.size, grain, [&](auto at, long i) {
    const vf g = at.load(gate.f32() + i);
    const vf dy = at.load(dout.f32() + i);
    const vf sigma = div(one, onePlusExpMinus(g));
    const vf scaled = mul(dy, sigma);
    // silu′(g) = σ · (1 + g · (1 − σ))
    const vf slope = fma(g, sub(one, sigma), one);
    at.store(dgate.f32() + i, mul(mul(scaled, at.load(up.f32() + i)), slope));
    at.store(dup.f32() + i, mul(scaled, g));
  });
}

void sigmoid(Args args) {
  const View out = args.view();
  const View x = args.view();
  forElements(out.size, grain, [&](auto at, long i) {
    at.store(out.f32() + i, div(set1(1.0f), onePlusExpMinus(at.load(x.f32() + i))));
  });
}

void sigmoidBackward(Args args) {
  const View dx = args.view();
  const View dy = args.view();
  const View y = args.view();
  forElements(dx.size, 2 * grain, [&](auto at, long i) {
    const vf value = at.load(y.f32() + i);
    const vf slope = mul(at.load(dy.f32() + i), value);
    at.store(dx.f32() + i, mul(slope, sub(set1(1.0f), value)));
  });
}

// — the softmax of rows —

void softmax(Args args) {
  const View out = args.view();
  const View x = args.view();
  const long rows = args.integer();
  const long cols = args.integer();
  parallelRanges(rows, maxOf(1, grain / maxOf(1, cols)), 1, [&](long begin, long end) {
    for (long r = begin; r < end; r += 1) {
      const float* from = x.f32() + r * cols;
      float* to = out.f32() + r * cols;
      vf tops = set1(-INFINITY);
      long c = 0;
      for (; c + W <= cols; c += W) tops = max(tops, load(from + c));
      float top = maxOfVector(tops);
      for (; c < cols; c += 1) top = from[c] > top ? from[c] : top;
      const vf shift = set1(top);
      forRange(0, cols, [&](auto at, long i) { at.store(to + i, exp(sub(at.load(from + i), shift))); });
      const vf inverse =
          set1(1 / sumRow(cols, [&](auto at, long i) { return at.load(to + i); }));
      forRange(0, cols, [&](auto at, long i) { at.store(to + i, mul(at.load(to + i), inverse)); });
    }
  });
}

void softmaxBackward(Args args) {
  const View dx = args.view();
  const View dy = args.view();
  const View y = args.view();
  const long rows = args.integer();
  const long cols = args.integer();
  parallelRanges(rows, rowGrain(cols), 1, [&](long begin, long end) {
    for (long r = begin; r < end; r += 1) {
      const float* grad = dy.f32() + r * cols;
      const float* value = y.f32() + r * cols;
      float* to = dx.f32() + r * cols;
      const vf mixed = set1(sumRow(
          cols, [&](auto at, long i) { return mul(at.load(grad + i), at.load(value + i)); }));
      forRange(0, cols, [&](auto at, long i) {
        at.store(to + i, mul(at.load(value + i), sub(at.load(grad + i), mixed)));
      });
    }
  });
}

// — rotary embedding —

struct Rope {
  const float *x, *cos, *sin;
  long heads, width, sequence, start;
  long outStride, outHeadStride, xStride, xHeadStride;
  bool inverse, sumHeads;
};

/** As many numbers as pairs lie in a vector, each twice. */
static inline vf twice(Whole, const float* p) { return loadTwice(p); }
static inline vf twice(Part at, const float* p) {
  float v[W / 2] = {};
  memcpy(v, p, static_cast<size_t>(at.count / 2) * sizeof(float));
  return loadTwice(v);
}

/** Rows [begin, end). With c = (c₀, c₀, c₁, …) and s = (−s₀, s₀, −s₁, …): y = x · c + swapped(x) · s. */
template <class To>
static void ropeRows(To* out, const Rope& p, long begin, long end) {
  const long half = p.width / 2;
  float signs[W];
  for (int i = 0; i < W; i += 1) signs[i] = (i % 2 == 0) == p.inverse ? 1.0f : -1.0f;
  const vf sign = load(signs);
  long position = begin % p.sequence;
  for (long r = begin; r < end; r += 1) {
    const long tables = (p.start + position) * half;
    position = position + 1 == p.sequence ? 0 : position + 1;
    forRange(0, p.width, [&](auto at, long i) {
      const vf c = twice(at, p.cos + tables + i / 2);
      const vf s = mul(twice(at, p.sin + tables + i / 2), sign);
      const float* x = p.x + r * p.xStride + i;
      To* y = out + r * p.outStride + i;
      vf sum = set1(0);
      for (long h = 0; h < p.heads; h += 1) {
        const vf v = at.load(x + h * p.xHeadStride);
        const vf turned = add(mul(v, c), mul(swapPairs(v), s));
        if (p.sumHeads)
          sum = add(sum, turned);
        else
          at.store(y + h * p.outHeadStride, turned);
      }
      if (p.sumHeads) at.store(y, sum);
    });
  }
}

void rope(Args args) {
  const View out = args.view();
  const View x = args.view();
  const View cos = args.view();
  const View sin = args.view();
  const long rows = args.integer();
  Rope p;
  p.cos = cos.f32();
  p.sin = sin.f32();
  p.heads = args.integer();
  p.width = args.integer();
  p.sequence = args.integer();
  p.start = args.integer();
  p.outStride = args.integer();
  p.outHeadStride = args.integer();
  const long outOffset = args.integer();
  p.xStride = args.integer();
  p.xHeadStride = args.integer();
  p.x = x.f32() + args.integer();
  p.inverse = args.flag();
  p.sumHeads = args.flag();
  parallelRanges(rows, rowGrain(p.heads * p.width), 1, [&](long begin, long end) {
    if (out.dtype == DType::bf16)
      ropeRows(out.bf16() + outOffset, p, begin, end);
    else
      ropeRows(out.f32() + outOffset, p, begin, end);
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
