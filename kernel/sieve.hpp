// The first pass of an exact search: bounds of every candidate's score from a code of a quarter of its size. Whatever
// cannot be among the k best is left out; the rest is scored exactly, so that the answer is the same.
//
// With codes x' of x and q' of q: |q.x - q'.x'| <= |q - q'| |x| + |q'| |x - x'|, and | |q - x| - |q' - x'| | <=
// |q - q'| + |x - x'|. Exact scores are computed in float32; how far rounding takes them from the true value is part of
// the bounds (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), with a factor of two to spare.
#pragma once

#include "codes.hpp"
#include "exact.hpp"

namespace madang::MADANG_ISA {

constexpr float tiny = 1e-30F;  // more than what is lost where products fall below the smallest normal float
constexpr float most_finite = 3.4e38F;

// Bounds of n scores, given the products of the codes. `facts`: of each candidate.
template <bool euclidean>
inline void bound(const Sieve& sieve, const float* products, const float* const* facts, std::int64_t n, float* lower,
                  float* upper) {
    alignas(64) float error[max_block], length[max_block];
    for (std::int64_t j = 0; j < n; ++j) {
        error[j] = facts[j][1];
        length[j] = facts[j][2];
    }
    if constexpr (euclidean) {
        for (std::int64_t j = 0; j < n; ++j) {
            const float norms = sieve.query_length * sieve.query_length + length[j];
            const float square = norms - 2 * products[j], spare = sieve.rounding * norms + tiny;
            const bool known = square - spare > 0 && square < most_finite;
            const float nearest = known ? __builtin_sqrtf(square - spare) : 0;
            const float farthest = __builtin_sqrtf(square + spare > 0 ? square + spare : 0);
            const float apart = (sieve.query_error + error[j]) * 1.0001F;
            const float least = nearest - apart > 0 ? nearest - apart : 0, most = farthest + apart;
            upper[j] = tiny - least * least * (1 - sieve.rounding);
            lower[j] = -most * most * (1 + sieve.rounding) - tiny;
        }
    } else {
        for (std::int64_t j = 0; j < n; ++j) {
            const float margin = sieve.query_error * length[j] + sieve.query_length * error[j]
                                 + sieve.rounding * sieve.query_length * length[j] + tiny;
            upper[j] = products[j] + margin;
            lower[j] = products[j] - margin;
        }
    }
}

// The products of the needle with the codes of a block.
inline void multiply(const Sieve& sieve, const Block& block, const float* const* facts, float* products) {
    const auto* needle = static_cast<const std::int8_t*>(sieve.needle.values);
    const std::int32_t offset = codes_are_signed ? 0 : sieve.needle.offset;
    const std::int64_t bytes = sieve.stride;
    constexpr std::int64_t early = 8;
    for (std::int64_t j = 0; j < block.size; j += 4) {
        const std::uint8_t* rows[4];
        for (std::int64_t i = 0; i < 4; ++i) {
            const std::int64_t place = j + i < block.size ? j + i : block.size - 1;
            rows[i] = sieve.codes + block.rows[place] * sieve.stride;
            if (place + early >= block.size) continue;
            const std::uint8_t* next = sieve.codes + block.rows[place + early] * sieve.stride;
            for (std::int64_t b = 0; b < bytes; b += line_bytes) __builtin_prefetch(next + b);
        }
        alignas(16) std::int32_t sums[4];
        dot_codes(rows, needle, bytes, sums);
        for (std::int64_t i = 0; i < 4; ++i) {
            const std::int64_t place = j + i < block.size ? j + i : block.size - 1;
            // Both may have wrapped around, their difference fits.
            const auto difference = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i])
                                                              - static_cast<std::uint32_t>(offset));
            products[j + i] = static_cast<float>(difference) * (facts[place][0] * sieve.needle.scale);
        }
    }
}

// Offer lower bounds to the heap, and list the candidates whose upper bound reaches the heap's worst. `suspects` has
// room for all candidates; returns how many there are.
inline std::int64_t sift(const Problem& problem, const Sieve& sieve, Range candidates, Heap& heap, Hit* suspects) {
    Block block;
    const float* facts[max_block];
    alignas(64) float products[max_block + 4], lower[max_block], upper[max_block] = {};
    std::int64_t found = 0;
    for (std::int64_t at = candidates.begin; at < candidates.end;) {
        at = fill(block, problem, at, candidates.end, max_block);
        for (std::int64_t j = 0; j < block.size; ++j) {
            facts[j] = sieve.facts + 4 * block.rows[j];
            __builtin_prefetch(facts[j]);
        }
        for (std::int64_t j = 0; j < block.size && j < 8; ++j)
            for (std::int64_t b = 0; b < sieve.stride; b += line_bytes)
                __builtin_prefetch(sieve.codes + block.rows[j] * sieve.stride + b);
        multiply(sieve, block, facts, products);
        if (problem.metric == Metric::euclidean) bound<true>(sieve, products, facts, block.size, lower, upper);
        else bound<false>(sieve, products, facts, block.size, lower, upper);
        for (std::int64_t i = 0; i < block.size; i += lanes) {
            const bool full = heap.size == heap.capacity;
            if (full && !any_not_below(upper + i, heap.hits[0].score)) continue;
            const std::int64_t end = i + lanes < block.size ? i + lanes : block.size;
            for (std::int64_t j = i; j < end; ++j) {
                if (heap.size == heap.capacity && upper[j] < heap.hits[0].score) continue;
                suspects[found++] = {upper[j], block.rows[j]};
                if (lower[j] == lower[j]) offer(heap, {lower[j], block.rows[j]});
            }
        }
    }
    return found;
}

}  // namespace madang::MADANG_ISA
