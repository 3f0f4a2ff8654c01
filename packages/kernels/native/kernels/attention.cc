// Causal attention, forward and backward (§2.1.1), one (sequence, head) a task, by blocks of 128 query rows.
//
// Scores of a block of queries with all keys they see are made by one product, so that the softmax sees whole rows; its
// memory is block × keys. Rows of q, k and v of one head lie heads · width apart.
#include "kernels.h"
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** Query rows a block: one block of k for the products that sum over them. */
constexpr long queryBlock = depth;

struct Shape {
  long batch, queries, keys, heads, queryWidth, valueWidth;
  float scale;
  DType dtype;

  long elementBytes() const { return dtype == DType::bf16 ? 2 : 4; }
  /** Keys that query row i sees. */
  long seen(long i) const { return keys - queries + i + 1; }
};

Shape readShape(Args& args, DType dtype) {
  Shape s;
  s.batch = args.integer();
  s.queries = args.integer();
  s.keys = args.integer();
  s.heads = args.integer();
  s.queryWidth = args.integer();
  s.valueWidth = args.integer();
  s.scale = static_cast<float>(args.number());
  s.dtype = dtype;
  return s;
}

/** Rows of one head: from row `row` of [rows, heads, width]. */
Source headRows(const void* data, const Shape& s, long row, long head, long width, bool transposed) {
  const char* at = static_cast<const char*>(data) + (row * s.heads + head) * width * s.elementBytes();
  return plainSource(at, s.dtype, s.heads * width, transposed);
}

long packedBytes(long rows, long panelRows, long k, DType dtype) {
  return ceilDiv(rows, panelRows) * panelBytes(panelRows, k, dtype);
}

void packRowsB(void* out, const Source& s, long rows, long k) {
  for (long row = 0; row < rows; row += rowsB)
    packB(static_cast<char*>(out) + row / rowsB * panelBytes(rowsB, k, s.dtype), s, row, minOf(rowsB, rows - row), k);
}

/** exp(scale · z − shift) over a row's seen keys: written as FP32 over z, or as BF16 beside it; Σ of the unrounded. */
float expRow(const float* z, float* out, uint16_t* halves, long seen, float scale, float shift) {
  const vf factor = set1(scale);
  const vf offset = set1(shift);
  vf total = set1(0);
  for (long j = 0; j < seen; j += W) {
    const long n = minOf(W, seen - j);
    if (n == W) {
      const vf p = exp(sub(mul(load(z + j), factor), offset));
      total = add(total, p);
      if (halves != nullptr) {
        storeBf16(halves + j, p);
      } else {
        store(out + j, p);
      }
    } else {
      float v[W] = {};
      storePartial(v, exp(sub(mul(loadPartial(z + j, n), factor), offset)), n);
      total = add(total, load(v));
      if (halves != nullptr) {
        storeBf16Partial(halves + j, load(v), n);
      } else {
        storePartial(out + j, load(v), n);
      }
    }
  }
  return sumOf(total);
}

float largest(const float* z, long count) {
  vf top = set1(-INFINITY);
  long j = 0;
  for (; j + W <= count; j += W) top = max(top, load(z + j));
  float highest = maxOfVector(top);
  for (; j < count; j += 1) highest = z[j] > highest ? z[j] : highest;
  return highest;
}

/** Keys beyond what a row sees get probability zero. */
void clearUnseen(float* p, uint16_t* halves, long seen, long width) {
  if (halves != nullptr) {
    memset(halves + seen, 0, static_cast<size_t>(width - seen) * 2);
  } else {
    memset(p + seen, 0, static_cast<size_t>(width - seen) * 4);
  }
}

}  // namespace

void attention(Args args) {
  const View out = args.view();
  const View lse = args.view();
  const View q = args.view();
  const View k = args.view();
  const View v = args.view();
  const Shape s = readShape(args, q.dtype);
  const bool low = s.dtype == DType::bf16;
  if (s.queries == 0 || s.keys == 0) return;
  const long block = minOf(queryBlock, s.queries);
  parallelFor(s.batch * s.heads, [&](long task) {
    const long b = task / s.heads;
    const long h = task % s.heads;
    const long keyPanels = packedBytes(s.keys, rowsB, s.queryWidth, s.dtype);
    char* packedK = static_cast<char*>(scratch(Scratch::packedB, static_cast<size_t>(
        keyPanels + packedBytes(s.valueWidth, rowsB, s.keys, s.dtype))));
    char* packedV = packedK + keyPanels;
    packRowsB(packedK, headRows(k.data, s, b * s.keys, h, s.queryWidth, false), s.keys, s.queryWidth);
    // Packed once for all keys; a block of queries enters only the first of them, those it sees.
    packRowsB(packedV, headRows(v.data, s, b * s.keys, h, s.valueWidth, true), s.valueWidth, s.keys);
    char* packedQ = static_cast<char*>(scratch(Scratch::packedA, static_cast<size_t>(
        maxOf(packedBytes(block, rowsA, s.queryWidth, s.dtype), packedBytes(block, rowsA, s.keys, s.dtype)))));
    float* scores = static_cast<float*>(scratch(Scratch::first, static_cast<size_t>(block * s.keys) * 4));
    uint16_t* halves =
        low ? static_cast<uint16_t*>(scratch(Scratch::second, static_cast<size_t>(block * s.keys) * 2)) : nullptr;
    float totals[queryBlock];
    for (long i0 = 0; i0 < s.queries; i0 += block) {
      const long rows = minOf(block, s.queries - i0);
      const long width = s.seen(i0 + rows - 1);
      const Source queries = headRows(q.data, s, b * s.queries + i0, h, s.queryWidth, false);
      packA(packedQ, queries, 0, rows, 0, s.queryWidth);
      multiplyPanels({packedQ, rows, s.queryWidth, queries, packedK, s.queryWidth, 0, 0, ceilDiv(width, rowsB), width, {scores, s.keys, false}});
      for (long r = 0; r < rows; r += 1) {
        float* z = scores + r * s.keys;
        uint16_t* p = low ? halves + r * s.keys : nullptr;
        const long seen = s.seen(i0 + r);
        const float top = s.scale * largest(z, seen);
        totals[r] = expRow(z, z, p, seen, s.scale, top);
        clearUnseen(z, p, seen, width);
        lse.f32()[(b * s.heads + h) * s.queries + i0 + r] =
            top + static_cast<float>(::log(static_cast<double>(totals[r])));
      }
      const Source probabilities =
          plainSource(low ? static_cast<void*>(halves) : static_cast<void*>(scores), s.dtype, s.keys, false);
      packA(packedQ, probabilities, 0, rows, 0, width);
      float* result = out.f32() + ((b * s.queries + i0) * s.heads + h) * s.valueWidth;
      multiplyPanels({packedQ, rows, width, probabilities, packedV, s.keys, 0, 0, ceilDiv(s.valueWidth, rowsB), s.valueWidth, {result, s.heads * s.valueWidth, false}});
      for (long r = 0; r < rows; r += 1)
        for (long d = 0; d < s.valueWidth; d += 1) result[r * s.heads * s.valueWidth + d] /= totals[r];
    }
  });
}

namespace {

/** dS = scale · P ∘ (dP − D) of a row, over z (which holds dP) or as BF16 beside it. P is exact here. */
void gradientRow(float* dp, const float* p, uint16_t* halves, long seen, float scale, float delta) {
  const vf factor = set1(scale);
  const vf shift = set1(delta);
  for (long j = 0; j < seen; j += W) {
    const long n = minOf(W, seen - j);
    const vf x = n == W ? load(dp + j) : loadPartial(dp + j, n);
    const vf weight = n == W ? load(p + j) : loadPartial(p + j, n);
    const vf ds = mul(mul(factor, weight), sub(x, shift));
    if (halves != nullptr) {
      if (n == W) {
        storeBf16(halves + j, ds);
      } else {
        storeBf16Partial(halves + j, ds, n);
      }
    } else if (n == W) {
      store(dp + j, ds);
    } else {
      storePartial(dp + j, ds, n);
    }
  }
}

float dotRows(const float* a, const float* b, long width) {
  vf sum = set1(0);
  long d = 0;
  for (; d + W <= width; d += W) sum = fma(load(a + d), load(b + d), sum);
  if (d < width) sum = fma(loadPartial(a + d, width - d), loadPartial(b + d, width - d), sum);
  return sumOf(sum);
}

void toHalves(uint16_t* out, const float* x, long count) {
  long i = 0;
  for (; i + W <= count; i += W) storeBf16(out + i, load(x + i));
  if (i < count) storeBf16Partial(out + i, loadPartial(x + i, count - i), count - i);
}

}  // namespace

// With P = exp(scale · q·k − lse), dP = dout · v, D_i = dout_i · out_i:
// dS = scale · P ∘ (dP − D), dq = dS k, dk = dSᵀ q, dv = Pᵀ dout. Query blocks add to dk and dv in ascending order.
void attentionBackward(Args args) {
  const View dq = args.view();
  const View dk = args.view();
  const View dv = args.view();
  const View dout = args.view();
  const View q = args.view();
  const View k = args.view();
  const View v = args.view();
  const View out = args.view();
  const View lse = args.view();
  const Shape s = readShape(args, q.dtype);
  const bool low = s.dtype == DType::bf16;
  const long block = minOf(queryBlock, s.queries);
  if (s.queries == 0 || s.keys == 0) return;
  parallelFor(s.batch * s.heads, [&](long task) {
    const long b = task / s.heads;
    const long h = task % s.heads;
    const long kScores = packedBytes(s.keys, rowsB, s.queryWidth, s.dtype);
    const long vScores = packedBytes(s.keys, rowsB, s.valueWidth, s.dtype);
    const long kSums = packedBytes(s.queryWidth, rowsB, s.keys, s.dtype);
    const long qSums = packedBytes(s.queryWidth, rowsB, block, s.dtype);
    const long gSums = packedBytes(s.valueWidth, rowsB, block, s.dtype);
    char* packedK = static_cast<char*>(
        scratch(Scratch::packedB, static_cast<size_t>(kScores + vScores + kSums + qSums + gSums)));
    char* packedV = packedK + kScores;
    char* packedKSums = packedV + vScores;
    char* packedQSums = packedKSums + kSums;
    char* packedGSums = packedQSums + qSums;
    packRowsB(packedK, headRows(k.data, s, b * s.keys, h, s.queryWidth, false), s.keys, s.queryWidth);
    packRowsB(packedV, headRows(v.data, s, b * s.keys, h, s.valueWidth, false), s.keys, s.valueWidth);
    packRowsB(packedKSums, headRows(k.data, s, b * s.keys, h, s.queryWidth, true), s.queryWidth, s.keys);

    const long widest = maxOf(s.queryWidth, s.valueWidth);
    char* packed = static_cast<char*>(scratch(Scratch::packedA, static_cast<size_t>(
        maxOf(packedBytes(block, rowsA, maxOf(widest, s.keys), s.dtype),
              packedBytes(s.keys, rowsA, block, s.dtype)))));
    const size_t scoreCount = static_cast<size_t>(block * s.keys);
    float* p = static_cast<float*>(scratch(Scratch::first, scoreCount * 4));
    float* ds = static_cast<float*>(scratch(Scratch::second, scoreCount * 4));
    uint16_t* pHalves = low ? static_cast<uint16_t*>(scratch(Scratch::third, scoreCount * 2)) : nullptr;
    uint16_t* dsHalves = low ? static_cast<uint16_t*>(scratch(Scratch::fourth, scoreCount * 2)) : nullptr;
    uint16_t* grads =
        low ? static_cast<uint16_t*>(scratch(Scratch::fifth, static_cast<size_t>(block * s.valueWidth) * 2)) : nullptr;

    const long keyStride = s.heads * s.queryWidth;
    const long valueStride = s.heads * s.valueWidth;
    float* dkHead = dk.f32() + (b * s.keys * s.heads + h) * s.queryWidth;
    float* dvHead = dv.f32() + (b * s.keys * s.heads + h) * s.valueWidth;
    for (long j = 0; j < s.keys; j += 1) {
      memset(dkHead + j * keyStride, 0, static_cast<size_t>(s.queryWidth) * 4);
      memset(dvHead + j * valueStride, 0, static_cast<size_t>(s.valueWidth) * 4);
    }
    for (long i0 = 0; i0 < s.queries; i0 += block) {
      const long rows = minOf(block, s.queries - i0);
      const long width = s.seen(i0 + rows - 1);
      const Source queries = headRows(q.data, s, b * s.queries + i0, h, s.queryWidth, false);
      const float* grad = dout.f32() + ((b * s.queries + i0) * s.heads + h) * s.valueWidth;
      const float* result = out.f32() + ((b * s.queries + i0) * s.heads + h) * s.valueWidth;
      Source gradients = plainSource(grad, DType::f32, valueStride, false);
      if (low) {
        for (long r = 0; r < rows; r += 1) toHalves(grads + r * s.valueWidth, grad + r * valueStride, s.valueWidth);
        gradients = plainSource(grads, DType::bf16, s.valueWidth, false);
      }
      packA(packed, queries, 0, rows, 0, s.queryWidth);
      multiplyPanels({packed, rows, s.queryWidth, queries, packedK, s.queryWidth, 0, 0, ceilDiv(width, rowsB), width, {p, s.keys, false}});
      packA(packed, gradients, 0, rows, 0, s.valueWidth);
      multiplyPanels({packed, rows, s.valueWidth, gradients, packedV, s.valueWidth, 0, 0, ceilDiv(width, rowsB), width, {ds, s.keys, false}});
      for (long r = 0; r < rows; r += 1) {
        float* pr = p + r * s.keys;
        float* dsr = ds + r * s.keys;
        uint16_t* ph = low ? pHalves + r * s.keys : nullptr;
        uint16_t* dh = low ? dsHalves + r * s.keys : nullptr;
        const long seen = s.seen(i0 + r);
        expRow(pr, pr, nullptr, seen, s.scale, lse.f32()[(b * s.heads + h) * s.queries + i0 + r]);
        gradientRow(dsr, pr, dh, seen, s.scale, dotRows(grad + r * valueStride, result + r * valueStride, s.valueWidth));
        if (low) toHalves(ph, pr, seen);
        clearUnseen(pr, ph, seen, width);
        clearUnseen(dsr, dh, seen, width);
      }
      const void* dsData = low ? static_cast<void*>(dsHalves) : static_cast<void*>(ds);
      const void* pData = low ? static_cast<void*>(pHalves) : static_cast<void*>(p);
      // dq = dS · k
      const Source dsRows = plainSource(dsData, s.dtype, s.keys, false);
      packA(packed, dsRows, 0, rows, 0, width);
      multiplyPanels({packed, rows, width, dsRows, packedKSums, s.keys, 0, 0, ceilDiv(s.queryWidth, rowsB), s.queryWidth, {dq.f32() + ((b * s.queries + i0) * s.heads + h) * s.queryWidth, keyStride, false}});
      // dk += dSᵀ · q, dv += Pᵀ · dout: sums over the block's rows.
      Source across = plainSource(dsData, s.dtype, s.keys, true);
      Source ownQueries = queries;
      ownQueries.transposed = true;
      packRowsB(packedQSums, ownQueries, s.queryWidth, rows);
      packA(packed, across, 0, width, 0, rows);
      multiplyPanels({packed, width, rows, across, packedQSums, rows, 0, 0, ceilDiv(s.queryWidth, rowsB), s.queryWidth, {dkHead, keyStride, true}});
      across.data = pData;
      gradients.transposed = true;
      packRowsB(packedGSums, gradients, s.valueWidth, rows);
      packA(packed, across, 0, width, 0, rows);
      multiplyPanels({packed, width, rows, across, packedGSums, rows, 0, 0, ceilDiv(s.valueWidth, rowsB), s.valueWidth, {dvHead, valueStride, true}});
    }
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
