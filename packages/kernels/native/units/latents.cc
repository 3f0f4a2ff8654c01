// Cached latents: their pool, and attention over it. One unit: see binding.gyp.
#include "../kernels/latents.cc"
#include "../kernels/latent-block.cc"
#include "../kernels/latent-attention.cc"
