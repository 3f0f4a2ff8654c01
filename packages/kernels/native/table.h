// What the addon knows of an instruction set: its kernels by name, and its peaks. Declarations alone, so that nothing here is
// compiled for one set and run for another.
#pragma once

namespace baleen {

/** A kernel, called with its arguments: see args.h. */
using Kernel = void (*)(const double* slots);

struct KernelEntry {
  const char* name;
  Kernel run;
};

/** The kernels of one instruction set, ended by an entry without a name; and its peaks. */
struct KernelTable {
  const KernelEntry* entries;
  /** GFLOP/s of FP32 multiply-adds, of BF16 dot products, GB/s of copying (read plus written), on all threads. */
  void (*peaks)(double* fp32, double* bf16Dot, double* copy, double* read);
};

}  // namespace baleen
