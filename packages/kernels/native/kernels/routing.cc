// The gate's weights, the bias that balances experts, and sorting slots by expert (§2.1.2).
#include "../elements.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

// — the gate's weights: k numbers a token, in double as the reference has them —

// Keeps the sum of the chosen scores from being zero, as the published code does.
static constexpr double tiny = 1e-20;

void gateWeights(Args args) {
  const View weights = args.view();
  const View scores = args.view();
  const View indices = args.view();
  const long tokens = args.integer();
  const long experts = args.integer();
  const long k = args.integer();
  const double scaling = args.number();
  const bool normalize = args.flag();
  parallelRanges(tokens, 4096 / maxOf(1, k), 1, [&](long begin, long end) {
    for (long t = begin; t < end; t += 1) {
      const float* s = scores.f32() + t * experts;
      const int32_t* chosen = indices.i32() + t * k;
      float* out = weights.f32() + t * k;
      double sum = 0;
      for (long j = 0; j < k; j += 1) sum += static_cast<double>(s[chosen[j]]);
      const double factor = normalize ? scaling / (sum + tiny) : scaling;
      for (long j = 0; j < k; j += 1) out[j] = static_cast<float>(s[chosen[j]] * factor);
    }
  });
}

void gateWeightsBackward(Args args) {
  const View dscores = args.view();
  const View dweights = args.view();
  const View scores = args.view();
  const View indices = args.view();
  const long tokens = args.integer();
  const long experts = args.integer();
  const long k = args.integer();
  const double scaling = args.number();
  const bool normalize = args.flag();
  parallelRanges(tokens, 4096 / maxOf(1, k), 1, [&](long begin, long end) {
    for (long t = begin; t < end; t += 1) {
      const float* s = scores.f32() + t * experts;
      const float* dw = dweights.f32() + t * k;
      const int32_t* chosen = indices.i32() + t * k;
      float* ds = dscores.f32() + t * experts;
      double sum = tiny, mixed = 0;
      for (long j = 0; j < k; j += 1) {
        const double value = static_cast<double>(s[chosen[j]]);
        sum += value;
        mixed += dw[j] * value;
      }
      // ds_i = scaling / S · (dw_i − Σ_j dw_j s_j / S)
      for (long j = 0; j < k; j += 1) {
        const double d = static_cast<double>(dw[j]);
        const double gradient = normalize ? scaling / sum * (d - mixed / sum) : scaling * d;
        ds[chosen[j]] = static_cast<float>(ds[chosen[j]] + gradient);
      }
    }
  });
}

// — sorting slots by expert —

void route(Args args) {
  const View counts = args.view();
  const View offsets = args.view();
  const View slotOfRow = args.view();
  const View rowOfSlot = args.view();
  const View indices = args.view();
  const long tokens = args.integer();
  const long k = args.integer();
  const long experts = args.integer();
  const long alignment = maxOf(1, args.integer());
  const long slots = tokens * k;
  const int32_t* chosen = indices.i32();
  // A stable counting sort: every part of the slots counts, then knows where its own begin behind those of the parts
  // before it. Any number of parts gives the same rows.
  const long parts = maxOf(1, minOf(threads(), slots / 8192));
  const long size = ceilDiv(slots, parts);
  int32_t* next = static_cast<int32_t*>(
      scratch(Scratch::first, static_cast<size_t>(parts * experts) * sizeof(int32_t)));
  parallelFor(parts, [&](long part) {
    int32_t* own = next + part * experts;
    for (long e = 0; e < experts; e += 1) own[e] = 0;
    const long end = minOf(slots, (part + 1) * size);
    for (long slot = part * size; slot < end; slot += 1) own[chosen[slot]] += 1;
  });
  int32_t* start = offsets.i32();
  // Rows that no slot has: those that fill an expert's up to the alignment, and what is left at the end.
  const auto pad = [&](long begin, long end) {
    for (long r = begin; r < end; r += 1) slotOfRow.i32()[r] = -1;
  };
  int32_t row = 0;
  for (long e = 0; e < experts; e += 1) {
    start[e] = row;
    for (long part = 0; part < parts; part += 1) {
      const int32_t count = next[part * experts + e];
      next[part * experts + e] = row;
      row += count;
    }
    counts.i32()[e] = row - start[e];
    const int32_t filled = static_cast<int32_t>(ceilDiv(row, alignment) * alignment);
    pad(row, filled);
    row = filled;
  }
  start[experts] = row;
  pad(row, slotOfRow.size);
  parallelFor(parts, [&](long part) {
    int32_t* own = next + part * experts;
    const long end = minOf(slots, (part + 1) * size);
    for (long slot = part * size; slot < end; slot += 1) {
      const int32_t to = own[chosen[slot]]++;
      slotOfRow.i32()[to] = static_cast<int32_t>(slot);
      rowOfSlot.i32()[slot] = to;
    }
  });
}

void updateRouterBias(Args args) {
  const View bias = args.view();
  const View counts = args.view();
  const View average = args.view();
  const long experts = args.integer();
  const double speed = static_cast<double>(static_cast<float>(args.number()));
  const bool proportional = args.flag();
  const double decay = args.number();
  double sum = 0;
  for (long e = 0; e < experts; e += 1) sum += counts.i32()[e];
  const double mean = sum / static_cast<double>(experts);
  if (sum == 0) return;
  float* smooth = average.f32();
  for (long e = 0; e < experts; e += 1) {
    double gap = (mean - counts.i32()[e]) / mean;
    if (smooth != nullptr) {
      smooth[e] = static_cast<float>(decay * smooth[e] + (1 - decay) * (counts.i32()[e] / mean));
      gap = 1 - static_cast<double>(smooth[e]);
    }
    const double sign = gap > 0 ? 1 : gap < 0 ? -1 : 0;
    bias.f32()[e] = static_cast<float>(bias.f32()[e] + speed * (proportional ? gap : sign));
  }
}

}  // namespace BALEEN_ISA
}  // namespace baleen
