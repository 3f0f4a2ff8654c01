// Partial sums of a few rows of a by a vector's bytes of columns of b, as src/reference/tensor-core.ts defines them: what
// summation.cc promotes. An instruction of a tensor core takes `instruction` products. For each column it needs the
// largest of their exponents, then cuts every product at so many bits below it and adds what is left as whole numbers.
//
// Exponents of a vector of columns fit into its bytes, so that they cost a quarter of what products do: codes of them,
// 0 for a zero and from 65 up for other factors, of which the sums of two others are larger than any with a zero. Up to
// `narrowBits` bits all is exact in FP32 and integers of 32 bits; with more, and where a factor is infinite or NaN, in
// doubles.
#pragma once
#include "../formats.h"
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** Rows of a, and columns of b, whose partial sums are made at once. */
constexpr long tileRows = 4;
constexpr long tileCols = 4 * W;
/** Products of an instruction. */
constexpr long instruction = 32;
/** 32 products below 4 · 2ⁿ and an accumulator below 2 · 2ⁿ are whole numbers that FP32 has. */
constexpr int narrowBits = 17;
/** Code of the smallest exponent. */
constexpr int firstCode = 65;

/** FP32's stored exponent of a format's smallest normal value; those of smaller ones count as the same. */
inline int leastField(DType dtype) {
  return withFormat(dtype, [](auto format) { return decltype(format)::least; });
}

/** Codes of exponents. What is no number may have any. */
inline vi exponentCodes(vf x, vi least) {
  const vi magnitude = magnitudeOf(x);
  // 143 is that of 2¹⁶, above every number of both formats.
  const vi field = lowerUnsigned(higher(shiftRight<23>(magnitude), least), set1i(143));
  const vi code = addi(subi(field, least), set1i(firstCode));
  return selectGreater(magnitude, set1i(0), code, set1i(0));
}

/** Some products along k of `tileRows` rows and `tileCols` columns. */
struct Run {
  /** Values of a and codes of their exponents, four times in a word: `aRow` apart by row, `aStep` by k. */
  const float* a;
  const int32_t* aCodes;
  long aRow;
  long aStep;
  /** Values of b and codes of their exponents: `tileCols` for each k. */
  const float* b;
  const uint8_t* bCodes;
  long count;
  /** The accumulators begin at zero. */
  bool begins;
};

/** What the arithmetic of a tensor core needs to know. */
struct Core {
  /** 0: there is none. */
  int bits;
  bool aligned;
  /** What turns the sum of two codes into FP32's stored exponent of their product. */
  int toField;
};

inline vi loadWords(const void* p) { return asInt(load(static_cast<const float*>(p))); }

/** In FP32, each addition rounded. */
void floatSums(const Run& run, float* sums) {
  constexpr int V = 2;
  for (long v = 0; v < tileCols; v += V * W) {
    vf acc[tileRows][V];
    for (int r = 0; r < tileRows; r += 1)
      for (int u = 0; u < V; u += 1)
        acc[r][u] = run.begins ? set1(0) : load(sums + r * tileCols + v + u * W);
    for (long kk = 0; kk < run.count; kk += 1) {
      vf y[V];
      for (int u = 0; u < V; u += 1) y[u] = load(run.b + kk * tileCols + v + u * W);
#pragma GCC unroll 4
      for (int r = 0; r < tileRows; r += 1) {
        const vf x = set1(run.a[r * run.aRow + kk * run.aStep]);
        for (int u = 0; u < V; u += 1) acc[r][u] = fma(x, y[u], acc[r][u]);
      }
    }
    for (int r = 0; r < tileRows; r += 1)
      for (int u = 0; u < V; u += 1) store(sums + r * tileCols + v + u * W, acc[r][u]);
  }
}

/** The largest sum of two exponents' codes of each row and column among `count` products from `first` on. */
void largestCodes(const Run& run, long first, long count, uint8_t* largest) {
  vi top[tileRows];
  for (int r = 0; r < tileRows; r += 1) top[r] = set1i(0);
  for (long kk = first; kk < first + count; kk += 1) {
    const vi y = loadWords(run.bCodes + kk * tileCols);
#pragma GCC unroll 4
    for (int r = 0; r < tileRows; r += 1) {
      // No byte carries into the next.
      const vi code = addi(set1i(run.aCodes[r * run.aRow + kk * run.aStep]), y);
      top[r] = higherBytes(top[r], code);
    }
  }
  for (int r = 0; r < tileRows; r += 1)
    store(reinterpret_cast<float*>(largest + r * tileCols), asFloat(top[r]));
}

/** As a tensor core that keeps at most `narrowBits`. */
template <bool Aligned>
void narrowSums(const Run& run, const Core& core, float* sums) {
  alignas(64) uint8_t largest[tileRows * tileCols];
  const vi toField = set1i(core.toField);
  const vi bits = set1i(core.bits);
  const vi twice127 = set1i(254 + core.bits);
  // What a mantissa keeps.
  const vi kept = set1i(~((1 << (23 - core.bits)) - 1));
  for (long first = 0; first < run.count; first += instruction) {
    const long count = minOf(instruction, run.count - first);
    largestCodes(run, first, count, largest);
    const bool zero = run.begins && first == 0;
    for (long v = 0; v < tileCols; v += W) {
      vf acc[tileRows], up[tileRows], down[tileRows];
      vi total[tileRows];
#pragma GCC unroll 4
      for (int r = 0; r < tileRows; r += 1) {
        acc[r] = zero ? set1(0) : load(sums + r * tileCols + v);
        // Where all products are zero any exponent will do that leaves the accumulator as it is.
        const vi code = higher(load8(largest + r * tileCols + v), set1i(2 * firstCode));
        vi field = addi(code, toField);
        if (Aligned) field = higher(field, shiftRight<23>(magnitudeOf(acc[r])));
        up[r] = asFloat(shiftLeft<23>(subi(twice127, field)));
        down[r] = asFloat(shiftLeft<23>(subi(field, bits)));
        total[r] = Aligned ? truncateToInt(mul(acc[r], up[r])) : set1i(0);
      }
      const float* b = run.b + first * tileCols + v;
      const float* a = run.a + first * run.aStep;
      for (long kk = 0; kk < count; kk += 1, b += tileCols, a += run.aStep) {
        const vf y = load(b);
#pragma GCC unroll 4
        for (int r = 0; r < tileRows; r += 1)
          total[r] = addi(total[r], truncateToInt(mul(mul(set1(a[r * run.aRow]), y), up[r])));
      }
#pragma GCC unroll 4
      for (int r = 0; r < tileRows; r += 1) {
        const vf sum = mul(toFloat(total[r]), down[r]);
        store(sums + r * tileCols + v, Aligned ? asFloat(andi(asInt(sum), kept)) : add(acc[r], sum));
      }
    }
  }
}

// Vectors of doubles in the compiler's own notation, as many bytes as the set's vectors have.
constexpr int D = W / 2;
typedef double vd __attribute__((vector_size(8 * D)));
typedef int64_t vl __attribute__((vector_size(8 * D)));
typedef float vh __attribute__((vector_size(4 * D)));

inline vd widened(const float* p) {
  vh x;
  memcpy(&x, p, sizeof x);
  return __builtin_convertvector(x, vd);
}
inline vd widened(const double* p) {
  vd x;
  memcpy(&x, p, sizeof x);
  return x;
}
inline void storeWide(float* p, vd x) {
  const vh rounded = __builtin_convertvector(x, vh);
  memcpy(p, &rounded, sizeof rounded);
}
inline void storeWide(double* p, vd x) { memcpy(p, &x, sizeof x); }
inline vl bitsOf(vd x) { return reinterpret_cast<vl>(x); }
inline vd ofBits(vl x) { return reinterpret_cast<vd>(x); }
inline vl higherOf(vl a, vl b) { return a > b ? a : b; }

/** Numbers below 2⁵² without their fractions: to nearest first, and back where that went beyond. */
inline vd wholeParts(vd x) {
  const vl sign = bitsOf(x) & INT64_MIN;
  const vd size = ofBits(bitsOf(x) ^ sign);
  const vd nearest = (size + 0x1p52) - 0x1p52;
  const vd one = vd{} + 1.0;
  const vd beyond = ofBits(bitsOf(one) & static_cast<vl>(nearest > size));
  return ofBits(bitsOf(nearest - beyond) | sign);
}

/** As any tensor core, and for factors that are no numbers. */
template <class Sum>
void wideSums(const Run& run, const Core& core, Sum* sums) {
  alignas(64) uint8_t largest[tileRows * tileCols];
  const int64_t toField = core.toField + 1023 - 127;
  const int64_t kept = ~((int64_t{1} << (52 - core.bits)) - 1);
  for (long first = 0; first < run.count; first += instruction) {
    const long count = minOf(instruction, run.count - first);
    largestCodes(run, first, count, largest);
    const bool zero = run.begins && first == 0;
    for (long v = 0; v < tileCols; v += D) {
      vd acc[tileRows], up[tileRows], down[tileRows], total[tileRows];
      for (int r = 0; r < tileRows; r += 1) {
        acc[r] = zero ? vd{} : widened(sums + r * tileCols + v);
        vl code;
        for (int i = 0; i < D; i += 1) code[i] = largest[r * tileCols + v + i];
        vl field = higherOf(code, vl{} + 2 * firstCode) + toField;
        if (core.aligned) {
          field = higherOf(field, (bitsOf(acc[r]) >> 52) & 0x7ff);
          // An infinite sum stays what it is by any power.
          field = field > 2046 ? vl{} + 2046 : field;
        }
        up[r] = ofBits((2046 + core.bits - field) << 52);
        down[r] = ofBits((field - core.bits) << 52);
        total[r] = core.aligned ? wholeParts(acc[r] * up[r]) : vd{};
      }
      const float* b = run.b + first * tileCols + v;
      const float* a = run.a + first * run.aStep;
      for (long kk = 0; kk < count; kk += 1, b += tileCols, a += run.aStep) {
        const vd y = widened(b);
#pragma GCC unroll 4
        for (int r = 0; r < tileRows; r += 1)
          total[r] += wholeParts(y * static_cast<double>(a[r * run.aRow]) * up[r]);
      }
      for (int r = 0; r < tileRows; r += 1) {
        const vd sum = total[r] * down[r];
        Sum* at = sums + r * tileCols + v;
        if (core.aligned) {
          // A NaN keeps all its bits, lest it become infinite.
          storeWide(at, sum == sum ? ofBits(bitsOf(sum) & kept) : sum);
        } else {
          const vh before = __builtin_convertvector(acc[r], vh);
          storeWide(at, __builtin_convertvector(before + __builtin_convertvector(sum, vh), vd));
        }
      }
    }
  }
}

/** Adds products to accumulators, which are FP32 up to `narrowBits`; `finite` says whether all factors are numbers. */
inline void addRun(const Run& run, const Core& core, bool, double* sums) { wideSums(run, core, sums); }
inline void addRun(const Run& run, const Core& core, bool finite, float* sums) {
  if (core.bits == 0) {
    floatSums(run, sums);
  } else if (!finite) {
    wideSums(run, core, sums);
  } else if (core.aligned) {
    narrowSums<true>(run, core, sums);
  } else {
    narrowSums<false>(run, core, sums);
  }
}

}  // namespace

}  // namespace BALEEN_ISA
}  // namespace baleen
