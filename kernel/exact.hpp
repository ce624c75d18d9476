// Exact search over a range of candidates: a block of rows that stays in the cache is scored against all
// queries, then the next block.
#pragma once

#include "distance.hpp"
#include "topk.hpp"

namespace madang::MADANG_ISA {

constexpr std::int64_t max_block = 256;
constexpr std::int64_t block_bytes = 96 * 1024;  // half or less of any level-2 cache this runs on
constexpr int row_tile = 4;
constexpr int lone_row_tile = 8;  // a single query needs more rows at once to hide the latency of the sums

// Candidates read together. Pointers are padded with the last one up to whole tiles, and one tile to fetch ahead.
struct Block {
    std::int64_t rows[max_block];
    const float* pointers[max_block + lone_row_tile + 1];
    std::int64_t size;
};

inline std::int64_t next_unmasked(const std::uint8_t* mask, std::int64_t at, std::int64_t end) {
    for (; at + 8 <= end; at += 8) {
        std::uint64_t word;
        __builtin_memcpy(&word, mask + at, sizeof word);
        if (word != 0) break;
    }
    while (at < end && mask[at] == 0) ++at;
    return at;
}

// Take up to `limit` candidates from `at` on; returns where to go on.
inline std::int64_t fill(Block& block, const Problem& problem, std::int64_t at, std::int64_t end,
                         std::int64_t limit) {
    std::int64_t n = 0;
    while (n < limit) {
        if (problem.rows == nullptr && problem.mask != nullptr) at = next_unmasked(problem.mask, at, end);
        if (at >= end) break;
        const std::int64_t row = problem.rows != nullptr ? problem.rows[at] : at;
        ++at;
        if (problem.rows != nullptr && problem.mask != nullptr && problem.mask[row] == 0) continue;
        block.rows[n] = row;
        block.pointers[n] = problem.vectors + row * problem.dim;
        ++n;
    }
    block.size = n;
    if (n == 0) return at;
    const std::int64_t padded = (n + 2 * lone_row_tile - 1) / lone_row_tile * lone_row_tile + 1;
    for (; n < padded; ++n) block.pointers[n] = block.pointers[n - 1];
    return at;
}

// Score `count` <= q queries against the block.
template <bool euclidean, int q>
inline void score_block(int count, const float* queries, const Block& block, std::int64_t dim, float* scores) {
    if constexpr (q > 1) {
        if (count < q) return score_block<euclidean, q - 1>(count, queries, block, dim, scores);
    }
    constexpr int r = q == 1 ? lone_row_tile : row_tile;
    for (std::int64_t j = 0; j < block.size; j += r)
        score_tile<euclidean, q, r>(queries, block.pointers + j, dim, scores + j, max_block);
}

// Whether a scan reads row after row. Only a lone query does, where additions are not what it waits for: with 512
// bits they never are, with 256 where the rows come from memory.
inline bool in_order(const Problem& problem, Range queries) {
    constexpr std::int64_t cached_bytes = 32 << 20;
    const std::int64_t candidates = problem.rows != nullptr ? problem.row_count : problem.count;
    const bool from_memory = candidates * problem.dim * static_cast<std::int64_t>(sizeof(float)) > cached_bytes;
    return queries.end - queries.begin == 1 && (lanes == 16 || (lanes == 8 && from_memory));
}

// Offer the block's scores to one query's heap; false when one was NaN.
inline bool collect(Heap& heap, const float* scores, const Block& block) {
    bool finite = true;
    for (std::int64_t i = 0; i < block.size; i += lanes) {
        if (heap.size == heap.capacity && !any_not_below(scores + i, heap.hits[0].score)) continue;
        const std::int64_t end = i + lanes < block.size ? i + lanes : block.size;
        for (std::int64_t j = i; j < end; ++j) {
            if (scores[j] != scores[j]) finite = false;
            else offer(heap, {scores[j], block.rows[j]});
        }
    }
    return finite;
}

// Rows per block: what fits the cache, unless the block is read only once.
inline std::int64_t block_size(std::int64_t dim, Range queries) {
    const std::int64_t fitting = block_bytes / (dim * static_cast<std::int64_t>(sizeof(float)));
    const std::int64_t whole = fitting / lone_row_tile * lone_row_tile;
    if (whole > max_block || queries.end - queries.begin <= tile_queries) return max_block;
    return whole < lone_row_tile ? lone_row_tile : whole;
}

template <bool euclidean>
inline bool scan_metric(const Problem& problem, Range queries, Range candidates, Heap* heaps) {
    const std::int64_t limit = block_size(problem.dim, queries);
    const bool sequential = in_order(problem, queries);
    Block block;
    alignas(64) float scores[tile_queries * max_block] = {};  // what pads the last tile is read but never used
    bool finite = true;
    for (std::int64_t at = candidates.begin; at < candidates.end;) {
        at = fill(block, problem, at, candidates.end, limit);
        for (std::int64_t q = queries.begin; q < queries.end; q += tile_queries) {
            const std::int64_t left = queries.end - q;
            const int count = left < tile_queries ? static_cast<int>(left) : tile_queries;
            const float* these = problem.queries + q * problem.dim;
            if (sequential) {
                for (std::int64_t j = 0; j < block.size; j += 4)
                    score_in_order<euclidean>(these, block.pointers + j, problem.dim, scores + j);
            } else {
                score_block<euclidean, tile_queries>(count, these, block, problem.dim, scores);
            }
            for (int i = 0; i < count; ++i)
                finite &= collect(heaps[q - queries.begin + i], scores + i * max_block, block);
        }
    }
    return finite;
}

inline bool scan(const Problem& problem, Range queries, Range candidates, Heap* heaps) {
    return problem.metric == Metric::euclidean ? scan_metric<true>(problem, queries, candidates, heaps)
                                               : scan_metric<false>(problem, queries, candidates, heaps);
}

}  // namespace madang::MADANG_ISA
