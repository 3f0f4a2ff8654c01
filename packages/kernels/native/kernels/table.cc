// The kernels of this instruction set by name.
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

static const KernelEntry entries[] = {
#define BALEEN_KERNEL(name) {#name, [](const double* slots) { name(Args(slots)); }},
#include "list.h"
#undef BALEEN_KERNEL
    {nullptr, nullptr},
};

const KernelTable& table() {
  static const KernelTable instance = {entries, &measurePeaks};
  return instance;
}

}  // namespace BALEEN_ISA
}  // namespace baleen
