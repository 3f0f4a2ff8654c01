// What kernels that encode what they have just computed call: numbers of rows that still lie in the first-level cache.
#pragma once
#include "../simd.h"

namespace baleen {
namespace BALEEN_ISA {

/** How blocks get their scales. */
struct Scaling {
  /** Rounded up to powers of two. */
  bool powerOfTwo;
  /** The smallest amax that a scale is made from: V3's published inference code has 1e-4. */
  float amaxFloor = 1e-4f;
};

/**
 * Quantises the rows at `x` into rows [first, first + rows) of `out`, whose blocks are one row high. With `ahead` what
 * lies behind them is fetched meanwhile.
 */
void encodeRows(const Operand& out, const float* x, long first, long rows, long cols,
                const Scaling& scaling, bool ahead = false);

}  // namespace BALEEN_ISA
}  // namespace baleen
