// The whole search, compiled once per instruction set with MADANG_ISA (avx512, avx2 or plain) and MADANG_LANES.
// Only headers that stay inside the namespace may be included: see types.hpp.
#include "exact.hpp"

#define MADANG_QUOTE(name) #name
#define MADANG_NAME(name) MADANG_QUOTE(name)

namespace madang::MADANG_ISA {

extern const Kernel kernel;
const Kernel kernel = {MADANG_NAME(MADANG_ISA), scan, merge, sort};

}  // namespace madang::MADANG_ISA
