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

using Entry = std::int64_t;  // a candidate of a search: see pool.hpp
// Measured: along the links, each place in the list of candidates costs what comparing this many codes in order does.
constexpr std::int64_t codes_per_place = 150;

constexpr int max_together = 4;  // queries that one thread searches a graph for side by side

using Slot = std::uint32_t;   // where a vector lies in a graph; reused after removals, unlike rows

static inline float score_of(Entry entry) {
    auto bits = static_cast<std::int32_t>(entry >> 32);
    bits ^= (bits >> 31) & 0x7FFFFFFF;
    float distance;
    __builtin_memcpy(&distance, &bits, sizeof distance);
    return 0.0F - distance;
}

static inline Slot slot_of(Entry entry) { return static_cast<Slot>(entry) >> 1; }

// How a vector is written down for comparing it: float32; a signed byte per dimension, plus 128; or half a byte, plus 8
// (64 dimensions in the low halves of 64 bytes, the next 64 in the high halves).
enum class Code : int { floats, bytes, nibbles };

// Where vectors lie that exact scores are computed from: floats, or halves, `stride` bytes from one to the next.
struct Exact {
    const std::uint8_t* rows;
    std::int64_t stride;
    bool half;
};

static inline Exact exactly(const float* rows, std::int64_t dim) {
    return {reinterpret_cast<const std::uint8_t*>(rows), dim * static_cast<std::int64_t>(sizeof(float)), false};
}

// What distances are computed from, one record per slot: the vector's code and right behind it the slot's links of the
// lowest level, so that both lie on one page.
//
// The score of slot x for a query q is scale[x] * (q . code[x]) + q.weight * bias[x]:
//   cosine, dot: weight 0; Euclidean: bias is -|x|^2 / 2 and weight 1, which orders like the distance.
// Between stored vectors, while building, it orders like a Euclidean distance for cosine, too: see world.hpp.
struct Table {
    std::uint8_t* records;
    std::int64_t stride;     // bytes from one record to the next
    std::int64_t links_at;   // bytes from the start of a record to its links
    float* facts;            // (capacity, 2): the scale and the bias of a slot, on one cache line
    std::int64_t dim;
    Code code;
    bool inner;              // dot: also between stored vectors the score is the inner product
};

// A query as it is compared with the records of a table.
struct Needle {
    const void* values;      // signed bytes or floats, zero up to a whole number of cache lines
    float scale;             // of the bytes
    std::int32_t offset;     // what the sum of products is too high by, since codes are stored plus 128 or plus 8
    float weight;
    float square;            // a squared distance is this minus twice the score
};

// One level-by-level small world. Lists have a fixed width; a place that is not used holds the slot itself, which a
// search has always visited already, so that it needs no test.
struct Links {
    Table table;
    std::int64_t width;          // links of a slot on the lowest level
    const Slot* upper;           // lists of the levels above, `upper_width` each
    std::int64_t upper_width;
    const Slot* upper_at;        // (capacity,) the index of a slot's first list above, in lists
    Slot entry;                  // where a search starts, on level `top`
    int top;
    Slot root;                   // every slot can be reached from it on the lowest level
};

// The slots that may be found: one bit for each, and how many are set.
struct Allowed {
    const std::uint64_t* bits;
    std::int64_t words;
    std::int64_t count;
};

// When a search ends: once the best candidate left is not among the best `least`, and its squared distance is more than
// `slack` times that of the k-th (0: whatever it is). At the latest when the best `most` are followed. The best `kept`
// stay in the list in any case. See pool.hpp.
struct Stop {
    std::int64_t k;
    std::int64_t least;
    std::int64_t kept;
    std::int64_t most;
    float slack;
};

// Memory of one search, reused by the next.
struct Scratch {
    std::uint8_t* visited;       // a bit for each of `capacity` slots
    std::int64_t capacity;
    Entry* pool;                 // candidates, best first: see pool.hpp
    Slot* pending;               // room for a few lists
    float* scores;               // of the pending ones
    std::int64_t evaluations;    // how many distances were computed: for statistics and for the filter's budget
};

// The best candidates seen so far of one query, best first: see pool.hpp. The storage belongs to the caller and has
// pool_padding more entries around it, all of them no_entry at first.
struct Tray {
    Entry* entries;
    std::int64_t capacity;
    std::int64_t size;
};

// What bounds of exact scores are computed from: see sieve.hpp.
struct Sieve {
    const std::uint8_t* codes;   // (count, stride) bytes, plus 128
    std::int64_t stride;
    const float* facts;          // (count, 4): scale of the code; at least |x - x'|; cosine 1, dot at least |x|,
                                 // Euclidean |x'|^2; 0
    Needle needle;
    float query_error;           // at least |q - q'|
    float query_length;          // dot, cosine: at least |q| and |q'|; Euclidean: |q'|
    float rounding;              // relative error of a float32 score
};

// What one instruction set offers.
struct Kernel {
    const char* name;

    // Exact search: offer candidates `candidates` to the heaps of queries `queries` (heaps[0] is the first of them).
    // False when a score was NaN; such scores are never kept.
    bool (*scan)(const Problem& problem, Range queries, Range candidates, Heap* heaps);
    // Move the hits of `from` into `into`.
    void (*merge)(Heap& into, const Heap& from);
    // Order the hits, best first.
    void (*sort)(Heap& heap);

    // Graphs: see find.hpp and link.hpp.
    void (*find)(const Links& links, const Needle* needles, int count, const Stop& stop, Scratch* scratches,
                 std::int64_t* sizes);
    std::int64_t (*find_allowed)(const Links& links, const Allowed& allowed, const Needle& needle, std::int64_t ef,
                                 std::int64_t wide, Scratch& scratch);
    std::int64_t (*scan_codes)(const Table& table, const Allowed& allowed, const Needle& needle, std::int64_t depth,
                               Scratch& scratch);
    std::int64_t (*count_bits)(const std::uint64_t* bits, std::int64_t words);
    void (*pack_mask)(const std::uint8_t* mask, std::int64_t words, std::uint64_t* bits);
    std::uint64_t (*gather_records)(const Table& table, std::int64_t bytes, const Slot* slots, std::int64_t count);
    void (*rescore)(const Exact& vectors, std::int64_t dim, Metric metric, const float* query, const Slot* slots,
                    std::int64_t count, float* scores);
    Needle (*needle_of)(const Table& table, Slot slot, void* values);
    Slot (*descend)(const Links& links, const Needle& needle, Slot from, int level, int to);
    std::int64_t (*gather)(const Links& links, const Needle& needle, Slot own, int level, std::int64_t ef, Slot& from,
                           const Slot* others, std::int64_t other_count, Scratch& scratch);
    std::int64_t (*select)(const Table& table, Slot slot, const Entry* candidates, std::int64_t count,
                           std::int64_t limit, float alpha2, Slot* kept, std::int8_t* room);
    void (*rank)(const Table& table, Slot slot, const Slot* slots, std::int64_t count, Entry* ranked,
                 std::int8_t* room);
    std::int64_t (*merge_link)(const Table& table, Slot slot, Entry* ranked, std::uint8_t* firm, std::int64_t used,
                               Entry newcomer, bool must, std::int64_t width, float alpha2, Slot* padded,
                               float* scores, std::int8_t* room);

    // Offer slots to a tray: by codes, with `base` added to each score, or by float32 vectors. See cells.hpp.
    void (*sweep)(const Table& table, const Needle& needle, Metric metric, const Slot* slots, std::int64_t count,
                  float base, Tray& tray);

    // The first pass of an exact search: see sieve.hpp.
    std::int64_t (*sift)(const Problem& problem, const Sieve& sieve, Range candidates, Heap& heap, Hit* suspects);
};

}  // namespace madang
