// What layers, the loss and the optimizer compute row by row. One unit: see binding.gyp.
#include "../kernels/layers.cc"
#include "../kernels/embedding.cc"
#include "../kernels/loss.cc"
#include "../kernels/optimizer.cc"
