// What vectors go through before they are compared: a check, and for cosine scaling to unit length.
#pragma once

#include <cmath>
#include <limits>

#include "parallel.hpp"
#include "types.hpp"

namespace madang {

enum class Refusal : int { none, not_finite, too_large };

struct Prepared {
    Refusal refusal;
    std::int64_t row;  // the first one refused
};

// In double, where no sum of squared floats overflows or vanishes. Eight partial sums let it vectorise.
inline double squared_norm(const float* vector, std::int64_t dim) {
    double sums[8] = {};
    std::int64_t d = 0;
    for (; d + 8 <= dim; d += 8)
        for (int i = 0; i < 8; ++i) sums[i] += static_cast<double>(vector[d + i]) * vector[d + i];
    for (; d < dim; ++d) sums[0] += static_cast<double>(vector[d]) * vector[d];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

// Check one vector and, unless `out` is null, write what is compared: for cosine the vector over its length (a
// zero vector stays zero and so has cosine 0 with everything), else a copy. For the other metrics a vector is
// too large when a dot product or distance of two such vectors could overflow float32.
inline Refusal prepare_row(const float* vector, std::int64_t dim, Metric metric, float* out) {
    constexpr double largest = static_cast<double>(std::numeric_limits<float>::max()) / 4.1;  // |q - x|^2 <= 4 max
    const double norm2 = squared_norm(vector, dim);
    if (!(norm2 <= std::numeric_limits<double>::max())) return Refusal::not_finite;
    if (metric != Metric::cosine && norm2 > largest) return Refusal::too_large;
    if (out == nullptr) return Refusal::none;
    const double scale = metric == Metric::cosine && norm2 > 0 ? 1.0 / std::sqrt(norm2) : 1.0;
    for (std::int64_t d = 0; d < dim; ++d) out[d] = static_cast<float>(vector[d] * scale);
    return Refusal::none;
}

// Prepare (count, dim) vectors into `out` of the same shape, or only check them where it is null.
inline Prepared prepare(const float* vectors, std::int64_t count, std::int64_t dim, Metric metric, float* out,
                        std::int64_t threads) {
    constexpr std::int64_t chunk = 256;
    const int n_threads = thread_count(threads, static_cast<double>(count) * static_cast<double>(dim));
    std::atomic<std::int64_t> first{count};
    for_each((count + chunk - 1) / chunk, n_threads, [&](int, std::int64_t item) {
        for (std::int64_t row = item * chunk; row < std::min(count, (item + 1) * chunk); ++row) {
            float* to = out == nullptr ? nullptr : out + row * dim;
            if (prepare_row(vectors + row * dim, dim, metric, to) == Refusal::none) continue;
            for (std::int64_t seen = first; row < seen && !first.compare_exchange_weak(seen, row);) {}
            return;
        }
    });
    if (first == count) return {Refusal::none, -1};
    return {prepare_row(vectors + first * dim, dim, metric, nullptr), first};
}

}  // namespace madang
