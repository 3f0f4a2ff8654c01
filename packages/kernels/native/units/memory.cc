// Moving and adding up numbers, the peaks, the table. One unit: see binding.gyp.
#include "../kernels/memory.cc"
#include "../kernels/peaks.cc"
#include "../kernels/table.cc"
