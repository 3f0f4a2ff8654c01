// What this machine's processor reaches with nothing but registers and streams: the peaks that kernels are measured by.
// The compute loops try several numbers of accumulators and keep the best; copying takes the better of plain and
// non-temporal stores, and reading sums up what it reads, in vectors enough that adding does not bound it.
#include <time.h>

#include "../pages.h"
#include "kernels.h"
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

double seconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

volatile float sink;

template <int N, bool Dot>
void spin(long rounds) {
  vf acc[N];
  for (int i = 0; i < N; i += 1) acc[i] = set1(static_cast<float>(i));
  vf x = set1(0.999f);
  vf y = set1(1e-6f);
  for (long r = 0; r < rounds; r += 1) {
    // Hides x and y from the optimiser, so that nothing moves out of the loop.
#if defined(BALEEN_AVX512) || defined(BALEEN_AVX2)
    asm volatile("" : "+v"(x), "+v"(y));
#elif defined(BALEEN_NEON)
    asm volatile("" : "+w"(x), "+w"(y));
#endif
#pragma GCC unroll 32
    for (int i = 0; i < N; i += 1) {
#if defined(BALEEN_AVX512BF16)
      if constexpr (Dot) {
        acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)x, (__m512bh)y);
        continue;
      }
#endif
      acc[i] = fma(acc[i], x, y);
    }
  }
  vf total = set1(0);
  for (int i = 0; i < N; i += 1) total = add(total, acc[i]);
  sink = sumOf(total);
}

template <int N, bool Dot>
double rate() {
  const long rounds = 1 << 18;
  double best = 0;
  for (int attempt = 0; attempt < 5; attempt += 1) {
    const double begin = seconds();
    parallelFor(threads(), [&](long) { spin<N, Dot>(rounds); });
    const double flops = 2.0 * N * W * (Dot && pairs(DType::bf16) ? 2 : 1) * static_cast<double>(rounds) * threads();
    const double now = flops / (seconds() - begin) / 1e9;
    best = now > best ? now : best;
  }
  return best;
}

template <bool Dot>
double bestRate() {
  double best = rate<8, Dot>();
  if constexpr (registers == 32) {
    const double more[] = {rate<16, Dot>(), rate<20, Dot>(), rate<24, Dot>(), rate<28, Dot>()};
    for (double r : more) best = r > best ? r : best;
  } else {
    const double more[] = {rate<10, Dot>(), rate<12, Dot>(), rate<14, Dot>()};
    for (double r : more) best = r > best ? r : best;
  }
  return best;
}

void readThrough(const float* in, long count) {
  constexpr int vectors = 8;
  vf acc[vectors];
  for (int v = 0; v < vectors; v += 1) acc[v] = set1(0);
  for (long i = 0; i < count; i += vectors * W)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v += 1) acc[v] = add(acc[v], load(in + i + v * W));
  vf total = set1(0);
  for (int v = 0; v < vectors; v += 1) total = add(total, acc[v]);
  sink = sumOf(total);
}

void stream(float* out, const float* in, long count) {
  for (long i = 0; i < count; i += W) storePast(out + i, load(in + i));
  drain();
}

/** GB/s of copying, read plus written, and of reading alone. */
void streamRates(double* copy, double* read) {
  // Far larger than the caches.
  const long count = 32 << 20;
  float* in = new (std::align_val_t(64)) float[count];
  float* out = new (std::align_val_t(64)) float[count];
  // As the storages of kernels do.
  askForLargePages(in, static_cast<size_t>(count) * 4);
  askForLargePages(out, static_cast<size_t>(count) * 4);
  const long parts = threads();
  const long share = count / parts / 128 * 128;
  parallelFor(parts, [&](long p) {
    memset(in + p * share, 1, static_cast<size_t>(share) * 4);
    memset(out + p * share, 1, static_cast<size_t>(share) * 4);
  });
  *copy = 0;
  *read = 0;
  for (int attempt = 0; attempt < 6; attempt += 1) {
    const double begin = seconds();
    parallelFor(parts, [&](long p) {
      if (attempt % 2 == 0) {
        stream(out + p * share, in + p * share, share);
      } else {
        memcpy(out + p * share, in + p * share, static_cast<size_t>(share) * 4);
      }
    });
    const double between = seconds();
    parallelFor(parts, [&](long p) { readThrough(in + p * share, share); });
    const double bytes = 4e-9 * static_cast<double>(share * parts);
    const double copied = 2 * bytes / (between - begin);
    const double gone = bytes / (seconds() - between);
    *copy = copied > *copy ? copied : *copy;
    *read = gone > *read ? gone : *read;
  }
  ::operator delete[](in, std::align_val_t(64));
  ::operator delete[](out, std::align_val_t(64));
}

}  // namespace

void measurePeaks(double* fp32, double* bf16Dot, double* copy, double* read) {
  *fp32 = bestRate<false>();
  *bf16Dot = bestRate<true>();
  streamRates(copy, read);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
