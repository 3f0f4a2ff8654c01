// Gating, selection, balance and the order of tokens by expert. One unit: see binding.gyp.
#include "../kernels/routing.cc"
#include "../kernels/topk.cc"
#include "../kernels/permute.cc"
#include "../kernels/balance.cc"
