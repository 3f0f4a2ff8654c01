// E5M6 codes (src/codec.ts), bit for bit as the codec has them, and matrices of them in tiles of 1×128, packed two in three
// bytes as src/packed12.ts does: what is kept of attention for the backward pass (§3.3.3).
//
// Rows go in pairs, so that a pair begins with a whole byte whatever its width. On the way codes lie in 16-bit words.
#pragma once
#include "blocks.h"

namespace baleen {
namespace BALEEN_ISA {

/** Packs codes; bytes beyond theirs are not written. */
static void packCodes(uint8_t* out, const uint16_t* codes, long count) {
  long i = 0;
  // Four codes at a time, in eight bytes of which the last two are written again by the next.
  for (; i + 6 <= count; i += 4, out += 6) {
    uint64_t four;
    memcpy(&four, codes + i, 8);
    const uint64_t two = (four & 0x00000fff00000fffu) | ((four >> 4) & 0x00fff00000fff000u);
    const uint64_t packed = (two & 0xffffffu) | ((two >> 8) & 0xffffff000000u);
    memcpy(out, &packed, 8);
  }
  for (; i < count; i += 2, out += 3) {
    const unsigned a = codes[i];
    const unsigned b = i + 1 < count ? codes[i + 1] : 0;
    out[0] = static_cast<uint8_t>(a);
    out[1] = static_cast<uint8_t>((a >> 8) | (b << 4));
    if (i + 1 < count) out[2] = static_cast<uint8_t>(b >> 4);
  }
}

/** The inverse; no bytes beyond the codes' are read. */
static void unpackCodes(uint16_t* codes, const uint8_t* in, long count) {
  long i = 0;
  for (; i + 6 <= count; i += 4, in += 6) {
    uint64_t packed;
    memcpy(&packed, in, 8);
    const uint64_t two = (packed & 0xffffffu) | ((packed & 0xffffff000000u) << 8);
    const uint64_t four = (two & 0x00000fff00000fffu) | ((two & 0x00fff00000fff000u) << 4);
    memcpy(codes + i, &four, 8);
  }
  for (; i < count; i += 2, in += 3) {
    codes[i] = static_cast<uint16_t>(in[0] | ((in[1] & 15) << 8));
    if (i + 1 < count) codes[i + 1] = static_cast<uint16_t>((in[1] >> 4) | (in[2] << 4));
  }
}

/**
 * One tile. Whole vectors of codes are stored: those beyond the tile are stored again by the next one, or lie in the room
 * behind the last.
 */
static void encodeE5m6(uint16_t* codes, float* scaleOut, const float* x, long size, const Scaling& scaling) {
  const vi top = topOf(x, size);
  if (anyAbove(top, set1i(largestFinite))) {
    // NaN is never the largest, and quotients may be anything.
    vf most = set1(0);
    forRange(0, size, [&](auto at, long c) { most = max(abs(at.load(x + c)), most); });
    const vf scale = scalesOf<E5m6>(set1(maxOfVector(most)), scaling);
    storePartial(scaleOut, scale, 1);
    forRange(0, size, [&](auto at, long c) {
      store16(codes + c, toCodes<E5m6>(div(at.load(x + c), scale)));
    });
    return;
  }
  const Divisor by = divisorOf(scalesOf<E5m6>(set1(maxOfVector(asFloat(top))), scaling));
  storePartial(scaleOut, by.scale, 1);
  forRange(0, size, [&](auto at, long c) {
    const vf v = at.load(x + c);
    store16(codes + c, ori(toMagnitudes<E5m6>(quotientOf(abs(v), by)), signsOf<E5m6>(v)));
  });
}

/** Calls `body(first row, rows, words)` for every pair of rows, with room for their codes and a vector more. */
template <class Body>
static void forRowPairs(long rows, long cols, Body&& body) {
  parallelRanges(ceilDiv(rows, 2), rowGrain(2 * cols), 1, [&](long begin, long end) {
    const size_t words = static_cast<size_t>(2 * cols + W);
    uint16_t* room = static_cast<uint16_t*>(scratch(Scratch::first, words * sizeof(uint16_t)));
    for (long pair = begin; pair < end; pair += 1)
      body(2 * pair, minOf(2, rows - 2 * pair), room);
  });
}

static void quantizeE5m6(const Operand& out, const float* x, long rows, long cols, const Scaling& scaling) {
  const long tiles = ceilDiv(cols, tile);
  forRowPairs(rows, cols, [&](long first, long count, uint16_t* codes) {
    float* scales = out.scales.f32() + first * tiles;
    for (long r = 0; r < count; r += 1)
      for (long t = 0; t < tiles; t += 1) {
        const long at = r * cols + t * tile;
        encodeE5m6(codes + at, scales + r * tiles + t, x + first * cols + at,
                   minOf(tile, cols - t * tile), scaling);
      }
    packCodes(out.values.codes() + first / 2 * (3 * cols), codes, count * cols);
  });
}

/** fl(value · scale) each, FP32 or BF16. */
template <class To>
static void dequantizeE5m6(To* out, const Operand& x, long rows, long cols) {
  const long tiles = ceilDiv(cols, tile);
  forRowPairs(rows, cols, [&](long first, long count, uint16_t* codes) {
    unpackCodes(codes, x.values.codes() + first / 2 * (3 * cols), count * cols);
    const float* scales = x.scales.f32() + first * tiles;
    for (long r = 0; r < count; r += 1)
      for (long t = 0; t < tiles; t += 1) {
        const long begin = r * cols + t * tile;
        const vf scale = set1(scales[r * tiles + t]);
        forRange(begin, begin + minOf(tile, cols - t * tile), [&](auto at, long c) {
          at.store(out + first * cols + c, mul(fromCodes<E5m6>(load16(codes + c)), scale));
        });
      }
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
