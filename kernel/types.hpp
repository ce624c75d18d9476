// The plain data that crosses between the instruction-set specific code and the rest. No templates and no
// standard library here: whatever both sides instantiate, the linker may merge, and then a CPU without AVX-512
// could run the copy compiled for it.
#pragma once

#include <cstdint>

namespace madang {

enum class Metric : int { cosine, dot, euclidean };

struct Hit {
    float score;
    std::int64_t row;
};

// The best `capacity` hits seen so far of one query; the storage belongs to the caller.
struct Heap {
    Hit* hits;
    std::int64_t capacity;
    std::int64_t size;
};

// One exact search. The candidates are the rows listed in `rows`, or all `count` rows where it is null; of these
// only the ones with a non-zero byte in `mask` (one byte per row) count where it is given.
struct Problem {
    const float* vectors;         // (count, dim), contiguous; for cosine of unit length
    std::int64_t count;
    std::int64_t dim;
    const std::int64_t* rows;     // (row_count,) strictly ascending, or null
    std::int64_t row_count;
    const std::uint8_t* mask;     // (count,) or null
    const float* queries;         // (query_count, dim), contiguous; for cosine of unit length
    std::int64_t query_count;
    std::int64_t k;
    Metric metric;
};

// A half-open range of queries or candidates.
struct Range {
    std::int64_t begin;
    std::int64_t end;
};

// What one instruction set offers.
struct Kernel {
    const char* name;
    // Offer candidates `candidates` to the heaps of queries `queries` (heaps[0] is the first of them).
    // False when a score was NaN; such scores are never kept.
    bool (*scan)(const Problem& problem, Range queries, Range candidates, Heap* heaps);
    // Move the hits of `from` into `into`.
    void (*merge)(Heap& into, const Heap& from);
    // Order the hits, best first.
    void (*sort)(Heap& heap);
};

}  // namespace madang
