// Comparing listed slots with one needle and keeping the best: what a search of cells spends its time with.
#pragma once

#include "codes.hpp"
#include "find.hpp"
#include "pool.hpp"

namespace madang::MADANG_ISA {

constexpr std::int64_t sweep_block = 32;  // slots compared before the best are picked; whole registers of scores
constexpr std::int64_t sweep_ahead = 12;  // records fetched before they are compared

// Scores of up to sweep_block slots, of which the first sweep_ahead were fetched; those after them in the list, too,
// are fetched ahead. `scores` gets whole fours.
template <Code code, bool biased>
inline void compare_block(const Rows<code, biased>& rows, const Slot* slots, std::int64_t n, std::int64_t left,
                          float* scores) {
    for (std::int64_t j = 0; j < n; j += 4) {
        for (std::int64_t f = j + sweep_ahead; f < j + sweep_ahead + 4 && f < left; ++f) rows.prefetch(slots[f]);
        if (j + 4 <= n) {
            rows.score(slots + j, scores + j);
            continue;
        }
        Slot padded[4];
        for (std::int64_t i = 0; i < 4; ++i) padded[i] = slots[j + i < n ? j + i : n - 1];
        rows.score(padded, scores + j);
    }
}

// Keep the best of n scores, which are read up to whole registers.
inline void keep_best(const Slot* slots, float* scores, std::int64_t n, Tray& tray) {
    for (std::int64_t j = n; j % lanes != 0; ++j) scores[j] = -__builtin_inff();
    Entry* entries = tray.entries;
    const std::int64_t last = tray.capacity - 1;
    float bar = tray.size < tray.capacity ? -__builtin_inff() : score_of(entries[last]);
    for (std::int64_t j = 0; j < n; j += lanes) {
        for (unsigned good = at_least(scores + j, bar); good != 0; good &= good - 1) {
            const std::int64_t i = j + __builtin_ctz(good);
            if (i >= n) break;
            const Entry entry = entry_of(scores[i], slots[i]);
            if (entry >= entries[last]) continue;
            insert_sorted(entries, tray.capacity, entry);
            if (tray.size < tray.capacity) ++tray.size;
            if (tray.size == tray.capacity) bar = score_of(entries[last]);
        }
    }
}

// Offer the slots to the tray, with `base` more than their own scores.
template <Code code, bool biased>
void sweep_slots(const Table& table, const Needle& needle, const Slot* slots, std::int64_t count, float base,
                 Tray& tray) {
    const Rows<code, biased> rows(table, needle);
    for (std::int64_t f = 0; f < sweep_ahead && f < count; ++f) rows.prefetch(slots[f]);
    alignas(64) float scores[sweep_block];
    for (std::int64_t at = 0; at < count; at += sweep_block) {
        const std::int64_t n = count - at < sweep_block ? count - at : sweep_block;
        compare_block(rows, slots + at, n, count - at, scores);
        for (std::int64_t j = 0; j < sweep_block; ++j) scores[j] += base;
        keep_best(slots + at, scores, n, tray);
    }
}

// The same with the exact scores of float32 vectors.
inline void sweep_vectors(const Table& table, const Needle& needle, Metric metric, const Slot* slots,
                          std::int64_t count, Tray& tray) {
    const Exact vectors = exactly(reinterpret_cast<const float*>(table.records), table.dim);
    const auto* query = static_cast<const float*>(needle.values);
    alignas(64) float scores[sweep_block];
    for (std::int64_t at = 0; at < count; at += sweep_block) {
        const std::int64_t n = count - at < sweep_block ? count - at : sweep_block;
        rescore(vectors, table.dim, metric, query, slots + at, n, scores);
        keep_best(slots + at, scores, n, tray);
    }
}

}  // namespace madang::MADANG_ISA
