// Searching a graph, or all its codes, for queries.
#pragma once

#include "distance.hpp"
#include "link.hpp"

namespace madang::MADANG_ISA {

// The `ef` best of up to `max_together` queries, left in the pools. While one search waits for memory the others
// compute.
template <Code code, bool biased>
void find_together(const Links& links, const Needle* needles, int count, const Stop& stop, Scratch* scratches,
                   std::int64_t* sizes) {
    Walk<code, biased> walks[max_together];
    bool going[max_together];
    for (int i = 0; i < count; ++i) {
        restart(scratches[i]);
        walks[i] = Walk<code, biased>(links, 0, needles[i], stop.most, scratches[i]);
        walks[i].stop_at(stop, needles[i].square);
        walks[i].start(links);
        going[i] = walks[i].expand(1);
    }
    for (int left = count; left > 0;) {
        left = 0;
        for (int i = 0; i < count; ++i) {
            if (going[i]) walks[i].absorb();
        }
        for (int i = 0; i < count; ++i) {
            if (going[i]) going[i] = walks[i].expand(1);
            left += going[i] ? 1 : 0;
        }
    }
    for (int i = 0; i < count; ++i) sizes[i] = walks[i].pool().size();
}

// The first allowed slot from `slot` on, going round; there is one.
inline Slot next_allowed(const Allowed& allowed, Slot slot) {
    std::int64_t word = slot >> 6;
    std::uint64_t bits = allowed.bits[word] & (~0ULL << (slot & 63));
    while (bits == 0) {
        word = word + 1 < allowed.words ? word + 1 : 0;
        bits = allowed.bits[word];
    }
    return static_cast<Slot>(word * 64 + __builtin_ctzll(bits));
}

// Whether much less is allowed around a slot than elsewhere: less than half, or less than three quarters where that is no
// chance (three standard deviations).
inline bool against(const Links& links, const Allowed& allowed, Slot around) {
    constexpr std::int64_t looked_at = 8;
    const Level level(links, 0);
    std::int64_t seen = 0, may_be = 0;
    for (std::int64_t i = 0; i < looked_at && i < level.width(); ++i) {
        const Slot* list = level.list(level.list(around)[i]);
        for (std::int64_t j = 0; j < level.width(); ++j, ++seen) may_be += may(allowed, list[j]) ? 1 : 0;
    }
    const double expected = static_cast<double>(seen) * static_cast<double>(allowed.count) / static_cast<double>(allowed.words * 64);
    const double missing = expected - static_cast<double>(may_be);
    return 2 * missing > expected || (4 * missing > expected && missing * missing > 9 * expected);
}

// The `ef` best allowed slots, left in the pool; returns how many. Only allowed slots are compared and followed; where
// one is linked to slots that are not, these slots' own links are followed in their place, up to a list's width in all
// (after ACORN, Patel et al. 2024). The search starts from what is nearest by the levels above, and from allowed slots
// all over the graph, since what is allowed may lie far from the query. Where little is allowed near the query, its
// nearest allowed slots lie far apart and hardly nearer than many others: then `wide` are kept instead, or, where that
// would take longer than comparing all that is allowed (places far away are found in fewer steps each), -1 is returned at once.
template <Code code, bool biased>
std::int64_t find_among(const Links& links, const Allowed& allowed, const Needle& needle, std::int64_t ef,
                        std::int64_t wide, Scratch& scratch) {
    constexpr std::int64_t starts = 8;
    const Slot nearest = descend<code, biased>(links, needle, links.entry, links.top, 0);
    const bool hard = against(links, allowed, nearest);
    if (hard && 3 * allowed.count <= 2 * codes_per_place * wide) return -1;
    restart(scratch);
    Walk<code, biased> walk(links, 0, needle, hard ? wide : ef, scratch);
    if (may(allowed, nearest)) walk.enter(nearest);
    else walk.pass(nearest, allowed);
    for (std::int64_t i = 0; i < starts; ++i)
        walk.enter(next_allowed(allowed, static_cast<Slot>(allowed.words * i / starts * 64)));
    while (walk.expand_allowed(2, allowed)) walk.absorb();
    return walk.pool().size();
}

// The `depth` best allowed slots by comparing the codes of all of them; returns how many.
template <Code code, bool biased>
std::int64_t scan_among(const Table& table, const Allowed& allowed, const Needle& needle, std::int64_t depth,
                        Scratch& scratch) {
    constexpr std::int64_t block = 32;
    Comparer<code, biased> comparer(table, needle, depth, scratch);
    std::int64_t n = 0;
    for (std::int64_t word = 0; word < allowed.words; ++word) {
        for (std::uint64_t bits = allowed.bits[word]; bits != 0; bits &= bits - 1) {
            const Slot slot = static_cast<Slot>(word * 64 + __builtin_ctzll(bits));
            if (n < ahead) comparer.prefetch(slot);
            scratch.pending[n++] = slot;
            if (n < block) continue;
            comparer.compare(n);
            n = 0;
        }
    }
    comparer.compare(n);
    return comparer.pool().size();
}

inline std::int64_t count_bits(const std::uint64_t* bits, std::int64_t words) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < words; ++i) count += __builtin_popcountll(bits[i]);
    return count;
}

// A byte per slot to a bit per slot, `words` times 64 of them.
inline void pack_mask(const std::uint8_t* mask, std::int64_t words, std::uint64_t* bits) {
    for (std::int64_t word = 0; word < words; ++word, mask += 64) {
#if MADANG_LANES == 16
        const __m512i bytes = _mm512_loadu_si512(mask);
        bits[word] = _mm512_test_epi8_mask(bytes, bytes);
#elif MADANG_LANES == 8
        std::uint64_t packed = 0;
        for (int half = 0; half < 2; ++half) {
            const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask + 32 * half));
            const __m256i none = _mm256_cmpeq_epi8(bytes, _mm256_setzero_si256());
            packed |= static_cast<std::uint64_t>(~static_cast<std::uint32_t>(_mm256_movemask_epi8(none))) << (32 * half);
        }
        bits[word] = packed;
#else
        std::uint64_t packed = 0;
        for (int i = 0; i < 64; ++i) packed |= static_cast<std::uint64_t>(mask[i] != 0) << i;
        bits[word] = packed;
#endif
    }
}

// Read the records of `count` slots in turn, fetched ahead, and add their first bytes up: the least that comparing them
// could cost.
inline std::uint64_t gather_records(const Table& table, std::int64_t bytes, const Slot* slots, std::int64_t count) {
    constexpr std::int64_t distance = 16;
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::uint8_t* next = table.records + slots[i + distance < count ? i + distance : i] * table.stride;
        for (std::int64_t b = 0; b < bytes; b += line_bytes) __builtin_prefetch(next + b);
        const std::uint8_t* record = table.records + slots[i] * table.stride;
        for (std::int64_t b = 0; b < bytes; b += line_bytes) sum += record[b];
    }
    return sum;
}

// Exact scores of `count` slots, of vectors of floats or halves.
template <bool euclidean, class T>
void rescore_rows(const Exact& vectors, std::int64_t dim, const float* query, const Slot* slots, std::int64_t count,
                  float* scores) {
    constexpr std::int64_t most = 32 * line_bytes;
    const std::int64_t bytes = dim * static_cast<std::int64_t>(sizeof(T)) < most ? dim * static_cast<std::int64_t>(sizeof(T)) : most;
    const auto fetch = [&](std::int64_t i) __attribute__((always_inline)) {
        if (i >= count) return;
        const std::uint8_t* row = vectors.rows + slots[i] * vectors.stride;
        for (std::int64_t b = 0; b < bytes; b += line_bytes) __builtin_prefetch(row + b);
    };
    for (std::int64_t i = 0; i < ahead; ++i) fetch(i);
    for (std::int64_t i = 0; i < count; i += 4) {
        for (std::int64_t j = i + ahead; j < i + ahead + 4; ++j) fetch(j);
        const T* rows[4];
        for (std::int64_t j = 0; j < 4; ++j)
            rows[j] = reinterpret_cast<const T*>(vectors.rows + slots[i + j < count ? i + j : count - 1] * vectors.stride);
        float four[4];
        score_in_order<euclidean>(query, rows, dim, four);
        for (std::int64_t j = 0; j < 4 && i + j < count; ++j) scores[i + j] = four[j];
    }
}

inline void rescore(const Exact& vectors, std::int64_t dim, Metric metric, const float* query, const Slot* slots,
                    std::int64_t count, float* scores) {
    if (metric == Metric::euclidean) {
        if (vectors.half) return rescore_rows<true, Half>(vectors, dim, query, slots, count, scores);
        return rescore_rows<true, float>(vectors, dim, query, slots, count, scores);
    }
    if (vectors.half) return rescore_rows<false, Half>(vectors, dim, query, slots, count, scores);
    return rescore_rows<false, float>(vectors, dim, query, slots, count, scores);
}

}  // namespace madang::MADANG_ISA
