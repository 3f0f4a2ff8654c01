// A pool of cached tokens (src/contract/latents.ts) and how one of its rows becomes words that products read.
#pragma once
#include "../simd.h"

namespace baleen {
namespace BALEEN_ISA {

/** Codes of a latent that share a scale. */
constexpr long latentTile = 128;

struct LatentPool {
  char* data;
  DType dtype;
  long rank;
  long rope;

  long width() const { return rank + rope; }
  /** Of FP8: the first byte of a token's scales, and of its rotary key. */
  long scales() const { return rank; }
  long rotary() const { return rank + 4 * ceilDiv(rank, latentTile); }
  long tokenBytes() const {
    return dtype == DType::f32 ? 4 * width() : dtype == DType::bf16 ? 2 * width() : rotary() + 2 * rope;
  }
  char* token(long slot) const { return data + slot * tokenBytes(); }
};

inline LatentPool latentPool(const View& view, long rank, long rope) {
  return {static_cast<char*>(view.data), view.dtype, rank, rope};
}

/**
 * Rows of tokens that lie one after another in a pool, as words: pairs of BF16, or FP32 values. Zeros up to `pitch` words a
 * row, and in rows from `count` to `padded`.
 */
template <bool Pairs>
void unpackLatents(const LatentPool& pool, const char* token, long count, long padded, long pitch, float* out);

}  // namespace BALEEN_ISA
}  // namespace baleen
