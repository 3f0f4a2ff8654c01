// Declares every kernel for the instruction set this is compiled for.
#pragma once
#include "../simd.h"
#include "../table.h"

namespace baleen {
namespace BALEEN_ISA {

#define BALEEN_KERNEL(name) void name(Args args);
#include "list.h"
#undef BALEEN_KERNEL

/** See KernelTable::peaks. */
void measurePeaks(double* fp32, double* bf16Dot, double* copy, double* read);

const KernelTable& table();

}  // namespace BALEEN_ISA
}  // namespace baleen
