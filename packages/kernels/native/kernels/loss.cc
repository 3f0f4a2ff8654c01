// Output head and softmax-cross-entropy in one: logits exist for a chunk of rows at a time. With logits z = x · Wᵀ and
// p = softmax(z): loss = log Σ exp z − z_target, ∂loss/∂z_v = p_v − [v = target], dx = ∂z · W, dW += ∂zᵀ · x.
#include "kernels.h"
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** A chunk's logits take about this much. */
constexpr long logitBytes = 8 << 20;

/** Where the largest logit of a row is, the first of equals. */
int32_t likeliestOf(const float* z, long vocab) {
  vf top = set1(-INFINITY);
  long v = 0;
  for (; v + W <= vocab; v += W) top = max(top, load(z + v));
  float highest = maxOfVector(top);
  for (; v < vocab; v += 1) highest = z[v] > highest ? z[v] : highest;
  for (v = 0; v < vocab; v += 1)
    if (z[v] == highest) return static_cast<int32_t>(v);
  return 0;
}

/** The loss of a row and, in `dlogits` (FP32 in place, or BF16), scale · ∂loss/∂z. Rows without a target are zero. */
float crossEntropyRow(float* z, long vocab, int32_t target, float scale, uint16_t* halves, bool gradient) {
  if (target < 0 || target >= vocab) {
    if (gradient && halves != nullptr) memset(halves, 0, static_cast<size_t>(vocab) * 2);
    if (gradient && halves == nullptr) memset(z, 0, static_cast<size_t>(vocab) * 4);
    return 0;
  }
  vf top = set1(-INFINITY);
  long v = 0;
  for (; v + W <= vocab; v += W) top = max(top, load(z + v));
  float highest = maxOfVector(top);
  for (; v < vocab; v += 1) highest = z[v] > highest ? z[v] : highest;
  const vf shift = set1(highest);
  double total = 0;
  vf partial = set1(0);
  for (v = 0; v + W <= vocab; v += W) partial = add(partial, exp(sub(load(z + v), shift)));
  total = static_cast<double>(sumOf(partial));
  if (v < vocab) {
    float rest[W];
    store(rest, exp(sub(loadPartial(z + v, vocab - v), shift)));
    for (long i = 0; i < vocab - v; i += 1) total += static_cast<double>(rest[i]);
  }
  const double lse = static_cast<double>(highest) + ::log(total);
  const float loss = static_cast<float>(lse - static_cast<double>(z[target]));
  if (!gradient) return loss;
  const vf factor = set1(static_cast<float>(static_cast<double>(scale) / total));
  // scale · (p − 1) of the target, from the logit itself before it is overwritten.
  const float own = scale * (static_cast<float>(::exp(static_cast<double>(z[target]) - lse)) - 1.0f);
  for (v = 0; v < vocab; v += W) {
    const long n = minOf(W, vocab - v);
    const vf logits = n == W ? load(z + v) : loadPartial(z + v, n);
    const vf d = mul(factor, exp(sub(logits, shift)));
    if (halves != nullptr) {
      if (n == W) {
        storeBf16(halves + v, d);
      } else {
        storeBf16Partial(halves + v, d, n);
      }
    } else if (n == W) {
      store(z + v, d);
    } else {
      storePartial(z + v, d, n);
    }
  }
  if (halves != nullptr) {
    halves[target] = bf16Pattern(own);
  } else {
    z[target] = own;
  }
  return loss;
}

}  // namespace

void linearCrossEntropy(Args args) {
  const View loss = args.view();
  const View x = args.view();
  const View weight = args.view();
  const int32_t* targets = args.view().i32();
  const long rows = args.integer();
  const long hidden = args.integer();
  const long vocab = args.integer();
  const View likeliest = args.view();
  const View rowScale = args.view();
  const View dx = args.view();
  const View dweight = args.view();
  const bool gradient = static_cast<bool>(dx);
  const bool low = x.dtype == DType::bf16;
  const long width = low ? 2 : 4;

  // Chunks are whole blocks of 128 rows, so that the weight gradient's sums do not depend on how many there are.
  const long chunk = maxOf(depth, logitBytes / (4 * maxOf(1, vocab)) / depth * depth);
  const long held = minOf(chunk, rows);
  float* logits = static_cast<float*>(scratch(Scratch::second, static_cast<size_t>(held * vocab) * 4));
  uint16_t* halves =
      low && gradient ? static_cast<uint16_t*>(scratch(Scratch::third, static_cast<size_t>(held * vocab) * 2)) : nullptr;
  // All rows are summed before they meet what dweight holds.
  const bool once = rows <= chunk;
  float* sums = nullptr;
  if (gradient && !once) sums = static_cast<float*>(scratch(Scratch::fourth, static_cast<size_t>(vocab * hidden) * 4));

  for (long first = 0; first < rows; first += chunk) {
    const long count = minOf(chunk, rows - first);
    const void* input = static_cast<const char*>(x.data) + first * hidden * width;
    const Problem forward = {count, vocab, hidden, plainSource(input, x.dtype, hidden, false),
                             plainSource(weight.data, x.dtype, hidden, false), {logits, vocab, false}};
    multiply(&forward, 1);
    parallelRanges(count, maxOf(1, 8192 / maxOf(1, vocab)), 1, [&](long begin, long end) {
      for (long r = begin; r < end; r += 1) {
        float* z = logits + r * vocab;
        if (likeliest) likeliest.i32()[first + r] = likeliestOf(z, vocab);
        loss.f32()[first + r] =
            crossEntropyRow(z, vocab, targets[first + r], gradient ? rowScale.f32()[first + r] : 0,
                            halves == nullptr ? nullptr : halves + r * vocab, gradient);
      }
    });
    if (!gradient) continue;
    const void* dlogits = low ? static_cast<const void*>(halves) : static_cast<const void*>(logits);
    const Problem backward[2] = {
        {count, hidden, vocab, plainSource(dlogits, x.dtype, vocab, false),
         plainSource(weight.data, x.dtype, hidden, true), {dx.f32() + first * hidden, hidden, false}},
        {vocab, hidden, count, plainSource(dlogits, x.dtype, vocab, true), plainSource(input, x.dtype, hidden, true),
         {once ? dweight.f32() : sums, hidden, once || first > 0}}};
    multiply(backward, 2);
  }
  if (sums != nullptr)
    parallelRanges(vocab * hidden, 1 << 14, W, [&](long begin, long end) {
      for (long i = begin; i < end; i += 1) dweight.f32()[i] += sums[i];
    });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
