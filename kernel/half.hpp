// IEEE half precision: 11 bits of a value, in half the bytes. Plain arithmetic, the same on every machine. Static, so that
// the linker does not merge what was compiled for one instruction set into the rest: see types.hpp.
#pragma once

#include <cstdint>

namespace madang {

using Half = std::uint16_t;
constexpr float largest_half = 65504.0F;

// The nearest half, ties to even; the value must not be above the largest.
static inline Half half_of(float value) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    const auto sign = static_cast<Half>(bits >> 16 & 0x8000U);
    bits &= 0x7FFFFFFFU;
    if (bits < 0x38800000U) {  // below 2^-14 halves are whole multiples of 2^-24, which is how finely 0.5 is added to
        float magnitude;
        __builtin_memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5F;
        __builtin_memcpy(&bits, &magnitude, sizeof bits);
        return static_cast<Half>(sign | (bits - 0x3F000000U));
    }
    bits += 0xC8000FFFU + (bits >> 13 & 1U);  // the exponent counts from 15, not 127; then round
    return static_cast<Half>(sign | (bits >> 13));
}

static inline float float_of(Half half) {
    const std::uint32_t bits = static_cast<std::uint32_t>(half & 0x7FFFU) << 13;
    float magnitude;
    __builtin_memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude *= 0x1p112F;  // 127 - 15; exact for subnormal halves, too
    return (half & 0x8000U) != 0 ? -magnitude : magnitude;
}

}  // namespace madang
