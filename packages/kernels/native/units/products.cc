// Matrix products: operands, tiles, the division into tasks, the kernels; and what attention packs for its own. One unit:
// see binding.gyp.
#include "../kernels/product.cc"
#include "../kernels/pack.cc"
#include "../kernels/attention-pack.cc"
#include "../kernels/distribute.cc"
#include "../kernels/matrix.cc"
