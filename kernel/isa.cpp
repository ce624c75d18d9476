// The whole search, compiled once per instruction set with MADANG_ISA (avx512, avx2 or plain) and MADANG_LANES.
// Only headers that stay inside the namespace may be included: see types.hpp.
#include "cells.hpp"
#include "exact.hpp"
#include "find.hpp"
#include "sieve.hpp"

#define MADANG_QUOTE(name) #name
#define MADANG_NAME(name) MADANG_QUOTE(name)

namespace madang::MADANG_ISA {

// Call the instance of a template for a code.
#define MADANG_BY_CODE(which, name, ...)                                             \
    switch (which) {                                                                 \
    case Code::bytes: return name<Code::bytes>(__VA_ARGS__);                         \
    case Code::nibbles: return name<Code::nibbles>(__VA_ARGS__);                     \
    default: return name<Code::floats>(__VA_ARGS__);                                 \
    }
#define MADANG_BY_CODE_AND_BIAS(which, biased, name, ...)                            \
    switch (which) {                                                                 \
    case Code::bytes:                                                                \
        return (biased) ? name<Code::bytes, true>(__VA_ARGS__) : name<Code::bytes, false>(__VA_ARGS__);     \
    case Code::nibbles:                                                              \
        return (biased) ? name<Code::nibbles, true>(__VA_ARGS__) : name<Code::nibbles, false>(__VA_ARGS__); \
    default:                                                                         \
        return (biased) ? name<Code::floats, true>(__VA_ARGS__) : name<Code::floats, false>(__VA_ARGS__);   \
    }

static void find(const Links& links, const Needle* needles, int count, const Stop& stop, Scratch* scratches,
                 std::int64_t* sizes) {
    MADANG_BY_CODE_AND_BIAS(links.table.code, needles[0].weight != 0, find_together, links, needles, count, stop, scratches,
                            sizes)
}

static std::int64_t find_allowed(const Links& links, const Allowed& allowed, const Needle& needle, std::int64_t ef,
                                 std::int64_t wide, Scratch& scratch) {
    MADANG_BY_CODE_AND_BIAS(links.table.code, needle.weight != 0, find_among, links, allowed, needle, ef, wide,
                            scratch)
}

static std::int64_t scan_codes(const Table& table, const Allowed& allowed, const Needle& needle, std::int64_t depth,
                               Scratch& scratch) {
    MADANG_BY_CODE_AND_BIAS(table.code, needle.weight != 0, scan_among, table, allowed, needle, depth, scratch)
}

static Slot descend_stored(const Links& links, const Needle& needle, Slot from, int level, int to) {
    switch (links.table.code) {
    case Code::bytes: return descend<Code::bytes, true>(links, needle, from, level, to);
    case Code::nibbles: return descend<Code::nibbles, true>(links, needle, from, level, to);
    default: return descend<Code::floats, true>(links, needle, from, level, to);
    }
}

static std::int64_t gather(const Links& links, const Needle& needle, Slot own, int level, std::int64_t ef, Slot& from,
                           const Slot* others, std::int64_t other_count, Scratch& scratch) {
    MADANG_BY_CODE(links.table.code, gather_level, links, needle, own, level, ef, from, others, other_count, scratch)
}

static std::int64_t select(const Table& table, Slot slot, const Entry* candidates, std::int64_t count,
                           std::int64_t limit, float alpha2, Slot* kept, std::int8_t* room) {
    MADANG_BY_CODE(table.code, select_links, table, slot, candidates, count, limit, alpha2, kept, room)
}

static void rank(const Table& table, Slot slot, const Slot* slots, std::int64_t count, Entry* ranked,
                 std::int8_t* room) {
    MADANG_BY_CODE(table.code, rank_slots, table, slot, slots, count, ranked, room)
}

static std::int64_t merge_one(const Table& table, Slot slot, Entry* ranked, std::uint8_t* firm, std::int64_t used,
                              Entry newcomer, bool must, std::int64_t width, float alpha2, Slot* padded, float* scores,
                              std::int8_t* room) {
    MADANG_BY_CODE(table.code, merge_link, table, slot, ranked, firm, used, newcomer, must, width, alpha2, padded, scores,
                   room)
}

static void sweep(const Table& table, const Needle& needle, Metric metric, const Slot* slots, std::int64_t count,
                  float base, Tray& tray) {
    if (table.code == Code::floats) return sweep_vectors(table, needle, metric, slots, count, tray);
    MADANG_BY_CODE_AND_BIAS(table.code, needle.weight != 0, sweep_slots, table, needle, slots, count, base, tray)
}

extern const Kernel kernel;
const Kernel kernel = {MADANG_NAME(MADANG_ISA), scan, merge, sort, find, find_allowed, scan_codes, count_bits, pack_mask, gather_records, rescore,
                       needle_of, descend_stored, gather, select, rank, merge_one, sweep, sift};

}  // namespace madang::MADANG_ISA
