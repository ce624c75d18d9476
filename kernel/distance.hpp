// Scores of a tile of queries against a tile of rows. Every pair has one vector of partial sums, filled in the
// order of the dimensions, whatever the shape of the tile: a score depends on its two vectors and the instruction
// set only, not on the batch, the filter or the number of threads.
#pragma once

#include "simd.hpp"
#include "types.hpp"

namespace madang::MADANG_ISA {

// One step of the sum. The Euclidean distance is summed from differences: |q|^2 + |x|^2 - 2qx would cancel
// for near neighbours, which are the ones that matter.
template <bool euclidean>
inline Vec accumulate(Vec query, Vec row, Vec sum) {
    if constexpr (euclidean) {
        const Vec difference = subtract(query, row);
        return multiply_add(difference, difference, sum);
    } else {
        return multiply_add(query, row, sum);
    }
}

// The scores of 4 pairs from their sums.
template <bool euclidean>
inline void store_scores(float* scores, Vec a, Vec b, Vec c, Vec d) {
    store_sums(scores, a, b, c, d);
    if constexpr (euclidean)
        for (int j = 0; j < 4; ++j) scores[j] = 0.0F - scores[j];  // not -x: identical vectors score 0, not -0
}

// Fetches rows ahead of their use, line after line in the order of their addresses, a few lines per step of a
// tile. A tile alone reads several rows side by side, which the prefetchers of some CPUs follow badly: with this, a
// few queries take half the time there.
class Ahead {
public:
    Ahead(const float* const* rows, std::int64_t dim) : rows_(rows), dim_(dim), at_(*rows), end_(*rows + dim) {}

    // As many lines as `r` vectors fill.
    template <int r>
    void fetch() {
        constexpr std::int64_t line = 64 / sizeof(float);
#pragma GCC unroll 8
        for (std::int64_t i = 0; i < r * lanes; i += line) __builtin_prefetch(at_ + i);
        at_ += r * lanes;
        if (at_ >= end_) {
            const float* next = *++rows_;
            if (next != end_) at_ = next;  // else the row follows in memory: go straight on
            end_ = next + dim_;
        }
    }

private:
    const float* const* rows_;
    std::int64_t dim_;
    const float* at_;
    const float* end_;
};

// scores[i * stride + j] of query i (at queries + i * dim) and row j (at rows[j]); `r` is a multiple of 4. The
// `r` rows after these and the pointer after them are read for fetching ahead.
template <bool euclidean, int q, int r>
inline void score_tile(const float* queries, const float* const* rows, std::int64_t dim, float* scores,
                       std::int64_t stride) {
    static_assert(r % 4 == 0);
    // 12 sums, 3 queries, a row and a difference are one more than AVX2 has. Where gcc would spill a sum, an empty
    // statement and one more read make it take the row from memory each time, in three quarters of the time.
    constexpr bool short_of_registers = euclidean && lanes == 8 && q > 2;
    Vec sums[q][r];
    for (int i = 0; i < q; ++i)
        for (int j = 0; j < r; ++j) sums[i][j] = zero();
    Ahead ahead(rows + r, dim);
    const auto step = [&](std::int64_t d, auto read) __attribute__((always_inline)) {
        ahead.template fetch<r>();
        Vec query[q];
#pragma GCC unroll 8
        for (int i = 0; i < q; ++i) query[i] = read(queries + i * dim + d);
#pragma GCC unroll 8
        for (int j = 0; j < r; ++j) {
            const Vec row = read(rows[j] + d);
#pragma GCC unroll 8
            for (int i = 0; i < q; ++i) {
                if constexpr (short_of_registers) {
                    asm volatile("");
                    query[i] = read(queries + i * dim + d);
                }
                sums[i][j] = accumulate<euclidean>(query[i], row, sums[i][j]);
            }
        }
    };
    std::int64_t d = 0;
    for (; d + lanes <= dim; d += lanes) step(d, [](const float* p) { return load(p); });
    if (d < dim) step(d, [n = dim - d](const float* p) { return load_first(p, n); });
    for (int i = 0; i < q; ++i) {
        float* out = scores + i * stride;
        for (int j = 0; j < r; j += 4)
            store_scores<euclidean>(out + j, sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]);
    }
}

// The same scores of one query and 4 rows, one row after the other. From memory this is as fast as it delivers, a
// quarter faster than a tile; from the cache every addition waits for the one before, and a tile is faster.
template <bool euclidean, class T>
inline void score_in_order(const float* query, const T* const* rows, std::int64_t dim, float* scores) {
    Vec sums[4];
    for (int j = 0; j < 4; ++j) {
        Vec sum = zero();
        std::int64_t d = 0;
        for (; d + lanes <= dim; d += lanes) sum = accumulate<euclidean>(load(query + d), load(rows[j] + d), sum);
        if (d < dim)
            sum = accumulate<euclidean>(load_first(query + d, dim - d), load_first(rows[j] + d, dim - d), sum);
        sums[j] = sum;
    }
    store_scores<euclidean>(scores, sums[0], sums[1], sums[2], sums[3]);
}

}  // namespace madang::MADANG_ISA
