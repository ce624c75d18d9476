// Writing vectors down as codes. Every vector has a scale of its own, so that nothing must be known of the others. It
// is the same on every instruction set, so that a file may move between machines.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "types.hpp"

namespace madang {

constexpr std::int64_t code_line = 64;

// Bytes of a code. Nibbles fill whole lines; bytes need not, since a needle is zero where a row is read too far.
inline std::int64_t code_bytes(Code code, std::int64_t dim) {
    switch (code) {
    case Code::bytes: return (dim + 3) / 4 * 4;
    case Code::nibbles: return (dim + 2 * code_line - 1) / (2 * code_line) * code_line;
    default: return (dim * 4 + code_line - 1) / code_line * code_line;
    }
}

// Bytes of a needle: whole lines, and two bytes for each of nibbles.
inline std::int64_t needle_bytes(Code code, std::int64_t dim) {
    const std::int64_t bytes = code_bytes(code, dim) * (code == Code::nibbles ? 2 : 1);
    return (bytes + code_line - 1) / code_line * code_line;
}

namespace detail {

inline float largest(const float* values, std::int64_t dim) {
    float largest = 0;
    for (std::int64_t d = 0; d < dim; ++d) largest = std::max(largest, std::fabs(values[d]));
    return largest;
}

// The nearest whole number; without a call of the library, so that loops vectorise.
inline std::int32_t rounded(float value) {
    constexpr float shift = 12582912.0F;  // 1.5 * 2^23: the bits below the point fall off
    const float moved = value + shift;
    std::int32_t bits;
    std::memcpy(&bits, &moved, sizeof bits);
    return bits - 0x4B400000;
}

// 1 / scale, or 0 where it would not be finite: such vectors are all but zero.
inline float inverse(float scale) {
    const float made = scale > 0 ? 1.0F / scale : 0;
    return std::isfinite(made) ? made : 0;
}

// The scale of nibbles with the least squared error: the largest value is clipped where that serves the others.
inline float nibble_scale(const float* values, std::int64_t dim) {
    const float top = largest(values, dim) / 7;
    float best = 0;
    double least = 0;
    for (const float share : {1.0F, 0.9F, 0.8F, 0.7F}) {
        const float scale = top * share, factor = inverse(scale);
        float parts[8] = {};
        for (std::int64_t d = 0; d < dim; ++d) {
            const float whole = static_cast<float>(rounded(std::clamp(values[d] * factor, -7.0F, 7.0F)));
            const float error = values[d] - whole * scale;
            parts[d % 8] += error * error;
        }
        double error = 0;
        for (const float part : parts) error += part;
        if (share == 1.0F || error < least) {
            best = scale;
            least = error;
        }
    }
    return best;
}

}  // namespace detail

struct Coded {
    float scale;
    double squared_norm;  // of what the code stands for
};

// Write the code of `values` (dim,) to `record`.
inline Coded encode(Code code, const float* values, std::int64_t dim, std::uint8_t* record) {
    if (code == Code::floats) {
        std::memcpy(record, values, static_cast<std::size_t>(dim) * sizeof(float));
        std::memset(record + dim * 4, 0, static_cast<std::size_t>(code_bytes(code, dim) - dim * 4));
        double norm = 0;
        for (std::int64_t d = 0; d < dim; ++d) norm += static_cast<double>(values[d]) * values[d];
        return {1, norm};
    }
    const bool half = code == Code::nibbles;
    const float scale = half ? detail::nibble_scale(values, dim) : detail::largest(values, dim) / 127;
    const float factor = detail::inverse(scale), most = half ? 7.0F : 127.0F;
    std::fill_n(record, code_bytes(code, dim), static_cast<std::uint8_t>(half ? 0x88 : 0x80));
    std::int64_t norm = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
        const std::int32_t value = detail::rounded(std::clamp(values[d] * factor, -most, most));
        norm += value * value;
        if (!half) {
            record[d] = static_cast<std::uint8_t>(value + 128);
            continue;
        }
        std::uint8_t& both = record[d / (2 * code_line) * code_line + d % code_line];
        const auto bits = static_cast<std::uint8_t>(value + 8);
        both = d / code_line % 2 == 0 ? static_cast<std::uint8_t>((both & 0xF0) | bits)
                                      : static_cast<std::uint8_t>((both & 0x0F) | (bits << 4));
    }
    return {scale, static_cast<double>(scale) * scale * static_cast<double>(norm)};
}

// A query as it is compared with codes; `room` has needle_bytes, on a cache line.
inline Needle needle_for(Code code, const float* values, std::int64_t dim, float weight, void* room) {
    Needle made{room, 1, 0, weight, 0};
    const std::int64_t bytes = needle_bytes(code, dim);
    if (code == Code::floats) {
        std::memcpy(room, values, static_cast<std::size_t>(dim) * sizeof(float));
        std::memset(static_cast<char*>(room) + dim * 4, 0, static_cast<std::size_t>(bytes - dim * 4));
        return made;
    }
    made.scale = detail::largest(values, dim) / 127;
    const float factor = detail::inverse(made.scale);
    auto* out = static_cast<std::int8_t*>(room);
    std::int32_t sum = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
        const std::int32_t value = detail::rounded(values[d] * factor);
        out[d] = static_cast<std::int8_t>(value);
        sum += value;
    }
    std::memset(out + dim, 0, static_cast<std::size_t>(bytes - dim));
    made.offset = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) * (code == Code::nibbles ? 8U : 128U));
    return made;
}

}  // namespace madang
