// Tokens into a pool and out of it (see latents.h).
#include "latents.h"

#include "../elements.h"
#include "../fp8.h"
#include "attention.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

float floatAt(const char* p) {
  float x;
  memcpy(&x, p, 4);
  return x;
}
const uint16_t* halves(const char* p) { return reinterpret_cast<const uint16_t*>(p); }

/** Codes times their scales, FP32. */
void decodeLatent(const LatentPool& pool, const char* token, float* out) {
  const uint8_t* codes = reinterpret_cast<const uint8_t*>(token);
  for (long first = 0; first < pool.rank; first += latentTile) {
    const vf scale = set1(floatAt(token + pool.scales() + first / latentTile * 4));
    const long end = minOf(pool.rank, first + latentTile);
    long c = first;
    for (; c + 4 * W <= end; c += 4 * W) {
      vf values[4];
      loadFour<E4m3>(codes + c, values);
      for (int v = 0; v < 4; v += 1) store(out + c + v * W, mul(values[v], scale));
    }
    forRange(c, end, [&](auto at, long i) { at.store(out + i, mul(fromCodes<E4m3>(at.loadCodes(codes + i)), scale)); });
  }
}

/** A whole row in FP32. */
void decodeRow(const LatentPool& pool, const char* token, float* latent, float* rotary) {
  if (pool.dtype == DType::e4m3) {
    decodeLatent(pool, token, latent);
    const uint16_t* key = halves(token + pool.rotary());
    forRange(0, pool.rope, [&](auto at, long i) { at.store(rotary + i, at.load(key + i)); });
    return;
  }
  const auto both = [&](auto* row) {
    forRange(0, pool.rank, [&](auto at, long i) { at.store(latent + i, at.load(row + i)); });
    forRange(0, pool.rope, [&](auto at, long i) { at.store(rotary + i, at.load(row + pool.rank + i)); });
  };
  if (pool.dtype == DType::bf16) {
    both(halves(token));
  } else {
    both(reinterpret_cast<const float*>(token));
  }
}

#if defined(BALEEN_AVX512BF16)
/** `count` BF16 numbers, zeros behind up to `space`, a multiple of 32. */
void copyHalves(uint16_t* out, const uint16_t* x, long count, long space) {
  for (long i = 0; i < space; i += 32) {
    const long n = minOf(32, maxOf(0, count - i));
    const __mmask32 mask = n == 32 ? ~0u : (1u << n) - 1u;
    _mm512_storeu_si512(out + i, _mm512_maskz_loadu_epi16(mask, x + i));
  }
}

/** Codes 0 … 63 as BF16 numbers in their order. */
void patternsInOrder(const uint8_t* codes, __mmask64 mask, __m512i& first, __m512i& second) {
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  toBf16Patterns(_mm512_permutexvar_epi64(order, _mm512_maskz_loadu_epi8(mask, codes)), bf16Patterns<E4m3>,
                 first, second);
}

/** Whether a scale is a power of two that moves every code's exponent without leaving BF16's. */
bool movesExponents(float scale) {
  int bits;
  memcpy(&bits, &scale, 4);
  const int exponent = (bits >> 23) - 127;
  return (bits & 0x7fffff) == 0 && exponent > -100 && exponent < 120;
}

/** 2^e times numbers that are neither zero nor NaN; those stay. */
__m512i movedBy(__m512i patterns, __m512i exponents) {
  const __m512i magnitude = _mm512_and_si512(patterns, _mm512_set1_epi16(0x7fff));
  const __mmask32 numbers =
      _mm512_cmplt_epu16_mask(_mm512_sub_epi16(magnitude, _mm512_set1_epi16(1)), _mm512_set1_epi16(0x7fbf));
  return _mm512_mask_add_epi16(patterns, numbers, patterns, exponents);
}

void unpackCodes(const LatentPool& pool, const char* token, long space, uint16_t* out) {
  const uint8_t* codes = reinterpret_cast<const uint8_t*>(token);
  for (long first = 0; first < pool.rank; first += latentTile) {
    const float scale = floatAt(token + pool.scales() + first / latentTile * 4);
    const long end = minOf(pool.rank, first + latentTile);
    if (!movesExponents(scale)) {
      for (long c = first; c < end; c += W) {
        const long n = minOf(W, end - c);
        storeBf16Partial(out + c, mul(fromCodes<E4m3>(load8Partial(codes + c, n)), set1(scale)), n);
      }
      continue;
    }
    int bits;
    memcpy(&bits, &scale, 4);
    const __m512i exponents = _mm512_set1_epi16(static_cast<short>(((bits >> 23) - 127) * 128));
    for (long c = first; c < end; c += 64) {
      const long n = minOf(64, end - c);
      __m512i low;
      __m512i high;
      patternsInOrder(codes + c, n == 64 ? ~0ull : (1ull << n) - 1ull, low, high);
      _mm512_storeu_si512(out + c, movedBy(low, exponents));
      _mm512_storeu_si512(out + c + 32, movedBy(high, exponents));
    }
  }
  // What was written behind the last code is covered by the rotary key and zeros.
  copyHalves(out + pool.rank, halves(token + pool.rotary()), pool.rope, roundUp(maxOf(space - pool.rank, 0), 32));
}
#endif

/** Rows of tokens are worth a thread's while from some 64 KB on. */
template <class Body>
void forTokens(long tokens, const LatentPool& pool, Body&& body) {
  parallelRanges(tokens, rowGrain(pool.width()), 1, [&](long begin, long end) {
    for (long t = begin; t < end; t += 1) body(t);
  });
}

/** The power of two at or above max(amax / 448, 1e-4). */
float scaleOf(const float* x, long count) {
  vi amax = set1i(0);
  forRange(0, count, [&](auto at, long i) {
    const vi size = magnitudeOf(at.load(x + i));
    // A NaN has no magnitude here: its code says it.
    amax = higher(amax, selectGreater(size, set1i(0x7f800000), set1i(0), size));
  });
  const float quotient = maxOfVector(asFloat(amax)) / 448.0f;
  const float least = 1e-4f;
  const float scale = quotient > least ? quotient : least;
  uint32_t bits;
  memcpy(&bits, &scale, 4);
  bits = (bits + 0x7fffffu) & 0x7f800000u;
  float rounded;
  memcpy(&rounded, &bits, 4);
  return rounded;
}

void encodeLatent(const LatentPool& pool, char* token, const float* x) {
  uint8_t* codes = reinterpret_cast<uint8_t*>(token);
  for (long first = 0; first < pool.rank; first += latentTile) {
    const long end = minOf(pool.rank, first + latentTile);
    const float scale = scaleOf(x + first, end - first);
    memcpy(token + pool.scales() + first / latentTile * 4, &scale, 4);
    // Division by a power of two is exact, and its result is at most 448.
    const vf inverse = set1(1.0f / scale);
    forRange(first, end, [&](auto at, long i) { at.storeCodes(codes + i, toCodes<E4m3>(mul(at.load(x + i), inverse))); });
  }
}

}  // namespace

template <bool Pairs>
void unpackLatents(const LatentPool& pool, const char* token, long count, long padded, long pitch, float* out) {
  const long bytes = pool.tokenBytes();
  for (long i = 0; i < count; i += 1, token += bytes, out += pitch) {
#if defined(BALEEN_AVX512BF16)
    if constexpr (Pairs) {
      uint16_t* to = reinterpret_cast<uint16_t*>(out);
      if (pool.dtype == DType::bf16) {
        copyHalves(to, halves(token), pool.width(), 2 * pitch);
      } else {
        unpackCodes(pool, token, 2 * pitch, to);
      }
      continue;
    }
#endif
    decodeRow(pool, token, out, out + pool.rank);
    for (long c = pool.width(); c < pitch; c += 1) out[c] = 0;
  }
  memset(out, 0, static_cast<size_t>((padded - count) * pitch) * 4);
}

template void unpackLatents<false>(const LatentPool&, const char*, long, long, long, float*);
#if defined(BALEEN_AVX512BF16)
template void unpackLatents<true>(const LatentPool&, const char*, long, long, long, float*);
#endif

/** What comes after the views of both: the pool, and how many tokens move. */
static LatentPool poolOf(Args& args, const View& pages, long& tokens) {
  tokens = args.integer();
  args.integer();  // tokens that fit into it
  const long rank = args.integer();
  return latentPool(pages, rank, args.integer());
}

void writeLatents(Args args) {
  const View pages = args.view();
  const View latent = args.view();
  const View rotary = args.view();
  const View slots = args.view();
  long tokens;
  const LatentPool pool = poolOf(args, pages, tokens);
  forTokens(tokens, pool, [&](long t) {
    char* token = pool.token(slots.i32()[t]);
    const long rank = pool.rank;
    const float* own = latent.f32() + t * rank;
    const float* key = rotary.f32() + t * pool.rope;
    const auto both = [&](auto* row) {
      forRange(0, rank, [&](auto at, long i) { at.store(row + i, at.load(own + i)); });
      forRange(0, pool.rope, [&](auto at, long i) { at.store(row + rank + i, at.load(key + i)); });
    };
    if (pool.dtype == DType::f32) {
      both(reinterpret_cast<float*>(token));
    } else if (pool.dtype == DType::bf16) {
      both(reinterpret_cast<uint16_t*>(token));
    } else {
      encodeLatent(pool, token, own);
      uint16_t* to = reinterpret_cast<uint16_t*>(token + pool.rotary());
      forRange(0, pool.rope, [&](auto at, long i) { at.store(to + i, at.load(key + i)); });
    }
  });
}

void readLatents(Args args) {
  const View latent = args.view();
  const View rotary = args.view();
  const View pages = args.view();
  const View slots = args.view();
  long tokens;
  const LatentPool pool = poolOf(args, pages, tokens);
  forTokens(tokens, pool, [&](long t) {
    decodeRow(pool, pool.token(slots.i32()[t]), latent.f32() + t * pool.rank, rotary.f32() + t * pool.rope);
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
