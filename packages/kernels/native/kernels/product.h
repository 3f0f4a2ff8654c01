// Matrix products: c [m, n] = a · bᵀ with a [m, k] and b [n, k], each stored either way round, in the one order that
// src/contract/matrix.ts fixes (`gemm`).
//
// Operands are packed into panels of rows: a's of rowsA rows, b's of rowsB = 2 vectors, cut into blocks of 128 along k.
// On the BF16 dot unit a panel holds pairs of BF16 values with the even k in the upper half, which makes the unit add in
// ascending k; elsewhere it holds FP32 values, and products of BF16 or FP8 values are exact in them.
#pragma once
#include "../simd.h"

namespace baleen {
namespace BALEEN_ISA {

/** Partial sums are promoted every so many of k (§3.3.2). */
constexpr long depth = 128;
// In registers are two vectors of sums a row, two columns of b, and on NEON elements of a, which x86 takes from memory.
#if defined(BALEEN_AVX512)
constexpr long rowsA = 14;
#elif defined(BALEEN_NEON)
constexpr long rowsA = 8;
#else
constexpr long rowsA = 6;
#endif
constexpr long rowsB = 2 * W;

/** Rows × k values as they lie in memory. */
struct Source {
  const void* data;
  DType dtype;
  /** Elements between stored rows. */
  long stride;
  /** Stored as [k, rows]. */
  bool transposed;
  /** FP8: scales of blockRows × blockCols blocks of the stored matrix, scaleStride between rows of blocks. */
  const float* scales;
  long blockRows;
  long blockCols;
  long scaleStride;
};

inline Source plainSource(const void* data, DType dtype, long stride, bool transposed) {
  return Source{data, dtype, stride, transposed, nullptr, 1, 1, 0};
}

/** Whether products of this type run on pairs of BF16. */
inline bool pairs(DType dtype) {
#if defined(BALEEN_AVX512BF16)
  return dtype != DType::f32;
#else
  (void)dtype;
  return false;
#endif
}

/** Bytes of a packed block of `rows` rows, of a packed panel, and of all panels of a matrix. */
inline long blockBytes(long rows, DType dtype) { return rows * depth * (pairs(dtype) ? 2 : 4); }
inline long panelBytes(long rows, long k, DType dtype) {
  return ceilDiv(k, depth) * (blockBytes(rows, dtype) + rows * 4);
}

/** Packed panels: where they lie, over how much of k they were packed, and the block of it that is meant. */
template <class Byte>
struct PanelsOf {
  Byte* data;
  long k;
  long firstBlock;
};
using Panels = PanelsOf<const char>;
using PanelsOut = PanelsOf<char>;

/**
 * Packs rows [first, first + count) of a over [k0, k0 + k) into panels, one behind the other, each its blocks and then its
 * scales; k0 is a multiple of `depth`, and its block becomes `firstBlock`.
 */
void packA(const PanelsOut& panels, const Source& source, long first, long count, long k0, long k);
/** The same for b. */
void packB(const PanelsOut& panels, const Source& source, long first, long count, long k0, long k);

/** Rows [row, row + rows) and columns [col, col + cols) of a matrix as it is stored. */
struct StoredPiece {
  long row;
  long rows;
  long col;
  long cols;
};
/** Its values as FP32, rows `stride` apart; zeros behind the columns up to `width`, a multiple of W. */
void decodePiece(float* out, long stride, long width, const Source& source, const StoredPiece& piece);

/** Where a product goes. */
struct Output {
  float* c;
  long stride;
  bool accumulate;
};

/** Writes or adds finished sums to a row of the output. */
inline void writeRow(float* out, const float* sums, long count, bool accumulate) {
  for (long j = 0; j < count; j += W) {
    const long n = minOf(W, count - j);
    if (n == W) {
      const vf x = load(sums + j);
      store(out + j, accumulate ? add(load(out + j), x) : x);
    } else {
      const vf x = loadPartial(sums + j, n);
      storePartial(out + j, accumulate ? add(loadPartial(out + j, n), x) : x, n);
    }
  }
}

/** Packed panels to multiply. */
struct PanelProduct {
  /** How a was stored and of which type. */
  const Source& source;
  /** a's m rows, b's panels [panel0, panel1), over k from each one's block on. */
  Panels a;
  long m;
  Panels b;
  long panel0;
  long panel1;
  long k;
  /** Columns, which count from panel 0, and so do the output's. */
  long n;
  Output out;
  /** Sums between parts of k, whole tiles one behind the other in the order they are made; or null. */
  float* sums;
  /** The first part begins the sums, the last one lets them go out. */
  bool first;
  bool last;
};

void multiplyPanels(const PanelProduct& product);

/** One product. */
struct Problem {
  long m;
  long n;
  long k;
  Source a;
  Source b;
  Output out;
};

/** Runs products on all threads. */
void multiply(const Problem* problems, long count);

/** How products of FP8 are summed where it is not V3's way (src/summation.ts). */
struct Summation {
  /** Products between promotions. */
  long promotion;
  /** What a tensor core keeps of them; 0: none, FP32. */
  int fractionBits;
  bool aligned;
};

/** Runs products that are summed so, on all threads: kernels/summation.cc. */
void multiplySummed(const Problem* problems, long count, const Summation& summation);

}  // namespace BALEEN_ISA
}  // namespace baleen
