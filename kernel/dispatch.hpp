// Which instruction set runs: the best one this CPU has, unless a test or the environment asks for another.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "types.hpp"

namespace madang {

#ifdef MADANG_X86
namespace avx512 {
extern const Kernel kernel;
}
namespace avx2 {
extern const Kernel kernel;
}
#endif
namespace plain {
extern const Kernel kernel;
}

// What this CPU can run, best first.
inline std::vector<const Kernel*> available_kernels() {
    std::vector<const Kernel*> found;
#ifdef MADANG_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma"))
        found.push_back(&avx512::kernel);
    // Every CPU with AVX2 also converts halves (F16C).
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::kernel);
#endif
    found.push_back(&plain::kernel);
    return found;
}

inline std::atomic<const Kernel*>& chosen_kernel() {
    static std::atomic<const Kernel*> chosen{available_kernels().front()};
    return chosen;
}

// Choose by name for the whole process; "auto" is the best one.
inline void choose_kernel(const std::string& name) {
    std::string known = "auto";
    for (const Kernel* kernel : available_kernels()) {
        if (name == "auto" || name == kernel->name) {
            chosen_kernel() = kernel;
            return;
        }
        known += std::string(", ") + kernel->name;
    }
    throw std::invalid_argument("isa: '" + name + "' is not available here; choose one of: " + known + ".");
}

}  // namespace madang
