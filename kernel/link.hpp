// Choosing a slot's links, and the searches that building needs.
#pragma once

#include "beam.hpp"

namespace madang::MADANG_ISA {

// A stored vector as a needle, for comparing it with other stored ones. `values` has room for it.
inline Needle needle_of(const Table& table, Slot slot, void* values) {
    Needle made{values, 1.0F, 0, table.inner ? 0.0F : 1.0F, 0};
    const std::uint8_t* record = table.records + slot * table.stride;
    if (table.code == Code::floats) {
        made.values = record;
        return made;
    }
    auto* bytes = static_cast<std::int8_t*>(values);
    std::int64_t filled = table.dim;
    std::int32_t sum = 0;
    if (table.code == Code::bytes) {
        for (std::int64_t i = 0; i < table.dim; ++i) bytes[i] = static_cast<std::int8_t>(record[i] ^ 0x80);
        for (; filled % line_bytes != 0; ++filled) bytes[filled] = 0;
    } else {
        filled = lines((table.dim + 1) / 2) * 2 * line_bytes;
        for (std::int64_t i = 0; 2 * i < filled; i += line_bytes) {
            for (std::int64_t l = 0; l < line_bytes; ++l) {
                bytes[2 * i + l] = static_cast<std::int8_t>((record[i + l] & 15) - 8);
                bytes[2 * i + line_bytes + l] = static_cast<std::int8_t>((record[i + l] >> 4) - 8);
            }
        }
    }
    for (std::int64_t i = 0; i < filled; ++i) sum += bytes[i];
    made.scale = table.facts[2 * std::int64_t{slot}];
    made.offset = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) * (table.code == Code::bytes ? 128U : 8U));
    return made;
}

// |x - y|^2 of two stored vectors from the score of y for the needle of x; for dot something that is low where the inner
// product is high, which alpha = 1 compares as well.
inline float squared_distance(const Table& table, Slot slot, float score) {
    return (table.inner ? 0.0F : -2.0F * table.facts[2 * std::int64_t{slot} + 1]) - 2.0F * score;
}

// What rounding may leave of the distance to a copy. Of several copies only one is linked to, or they would fill the list.
inline float no_distance(const Table& table, Slot slot) {
    return table.inner ? -__builtin_inff() : -4e-6F * table.facts[2 * std::int64_t{slot} + 1];
}

// From `count` candidates, best first, keep those that no kept one is much nearer to than the slot itself, up to
// `limit` (Malkov & Yashunin 2018, algorithm 4, with the alpha of DiskANN, Jayaram Subramanya et al. 2019, squared).
// alpha2 == 0 keeps the nearest. Returns how many; `kept` has room for 3 more.
template <Code code>
std::int64_t select_links(const Table& table, Slot slot, const Entry* candidates, std::int64_t count,
                          std::int64_t limit, float alpha2, Slot* kept, std::int8_t* room) {
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < count && n < limit; ++i) {
        const Slot candidate = slot_of(candidates[i]);
        if (alpha2 > 0 && n > 0) {
            const float own = squared_distance(table, slot, score_of(candidates[i]));
            const Rows<code, true> rows(table, needle_of(table, candidate, room));
            const float copy = no_distance(table, candidate);
            bool hidden = false;
            for (std::int64_t j = n; j < n + 3; ++j) kept[j] = candidate;  // pads the last four
            for (std::int64_t j = 0; j < n && !hidden; j += 4) {
                float scores[4];
                rows.score(kept + j, scores);
                for (std::int64_t l = 0; l < 4 && j + l < n; ++l) {
                    const float apart = squared_distance(table, candidate, scores[l]);
                    hidden |= alpha2 * apart < own || apart <= copy;
                }
            }
            if (hidden) continue;
        }
        kept[n++] = candidate;
    }
    return n;
}

// Sort `count` slots by their score for the needle of `slot`, best first.
template <Code code>
void rank_slots(const Table& table, Slot slot, const Slot* slots, std::int64_t count, Entry* ranked,
                std::int8_t* room) {
    const Rows<code, true> rows(table, needle_of(table, slot, room));
    for (std::int64_t i = 0; i < count && i < ahead; ++i) rows.prefetch(slots[i]);
    for (std::int64_t i = 0; i < count; i += 4) {
        for (std::int64_t f = i + ahead; f < i + ahead + 4 && f < count; ++f) rows.prefetch(slots[f]);
        Slot four[4];
        for (std::int64_t j = 0; j < 4; ++j) four[j] = slots[i + j < count ? i + j : count - 1];
        float scores[4];
        rows.score(four, scores);
        for (std::int64_t j = 0; j < 4 && i + j < count; ++j) {
            const Entry entry = entry_of(scores[j], four[j]);
            std::int64_t at = i + j;
            for (; at > 0 && ranked[at - 1] > entry; --at) ranked[at] = ranked[at - 1];
            ranked[at] = entry;
        }
    }
}

// Merge a newcomer into `ranked` (links of `slot`, best first, `used` of them) of `width` places; a byte of `firm` goes
// with each. It stays out where a nearer link is much nearer to it, unless `must`; it takes the place of links that it
// is much nearer to, or else of the farthest. Firm links stay. Returns how many there are now. The arrays have room for
// width + 4.
template <Code code>
std::int64_t merge_link(const Table& table, Slot slot, Entry* ranked, std::uint8_t* firm, std::int64_t used,
                        Entry newcomer, bool must, std::int64_t width, float alpha2, Slot* padded, float* scores,
                        std::int8_t* room) {
    std::int64_t at = 0, reserved = must ? 1 : 0;
    while (at < used && ranked[at] < newcomer) ++at;
    for (std::int64_t i = 0; i < used; ++i) reserved += firm[i];
    if (reserved > width || (!must && reserved >= width)) return used;
    if (alpha2 > 0) {
        const float own = squared_distance(table, slot, score_of(newcomer));
        const float copy = no_distance(table, slot_of(newcomer));
        const Rows<code, true> rows(table, needle_of(table, slot_of(newcomer), room));
        for (std::int64_t i = 0; i < used; ++i) padded[i] = slot_of(ranked[i]);
        for (std::int64_t i = used; i < used + 3; ++i) padded[i] = slot_of(newcomer);
        for (std::int64_t i = 0; i < used; i += 4) {
            rows.score(padded + i, scores + i);
            for (std::int64_t j = i; j < i + 4 && j < at && !must; ++j) {
                const float apart = squared_distance(table, slot_of(newcomer), scores[j]);
                if (alpha2 * apart < own || apart <= copy) return used;
            }
        }
    }
    std::int64_t n = at;
    for (std::int64_t i = at; i < used; ++i) {
        if (firm[i] == 0 && alpha2 > 0
            && alpha2 * squared_distance(table, slot_of(newcomer), scores[i])
                   < squared_distance(table, slot, score_of(ranked[i])))
            continue;
        ranked[n] = ranked[i];
        firm[n++] = firm[i];
    }
    for (std::int64_t i = n; i > at; --i) {
        ranked[i] = ranked[i - 1];
        firm[i] = firm[i - 1];
    }
    ranked[at] = newcomer;
    firm[at] = must ? 1 : 0;
    if (++n <= width) return n;
    std::int64_t last = n - 1;
    while (firm[last] != 0) --last;
    for (std::int64_t i = last; i + 1 < n; ++i) {
        ranked[i] = ranked[i + 1];
        firm[i] = firm[i + 1];
    }
    return n - 1;
}

// The slot that greedy steps from `from` on `level` end at, on level `to` + 1.
template <Code code, bool biased>
Slot descend(const Links& links, const Needle& needle, Slot from, int level, int to) {
    const Rows<code, biased> rows(links.table, needle);
    float scores[4];
    const Slot same[4] = {from, from, from, from};
    rows.score(same, scores);
    Entry best = entry_of(scores[0], from);
    for (; level > to; --level) {
        const Level lists(links, level);
        for (Entry before = no_entry; best != before;) {
            before = best;
            const Slot* list = lists.list(slot_of(best));
            const std::int64_t width = lists.width();
            for (std::int64_t i = 0; i < width; ++i) rows.prefetch(list[i]);
            for (std::int64_t i = 0; i < width; i += 4) {
                Slot four[4];
                for (std::int64_t j = 0; j < 4; ++j) four[j] = list[i + j < width ? i + j : width - 1];
                rows.score(four, scores);
                for (int j = 0; j < 4; ++j) {
                    const Entry entry = entry_of(scores[j], four[j]);
                    if (entry < best) best = entry;
                }
            }
        }
    }
    return slot_of(best);
}

inline void restart(Scratch& scratch) {
    __builtin_memset(scratch.visited, 0, static_cast<std::size_t>((scratch.capacity + 7) / 8));
}

// The best `ef` of one level for a stored vector: by a search of the graph from `from` (unless that is the vector's own
// slot), and among `others`. They are left in the pool; returns how many, and the nearest of the graph in `from`.
template <Code code>
std::int64_t gather_level(const Links& links, const Needle& needle, Slot own, int level, std::int64_t ef, Slot& from,
                          const Slot* others, std::int64_t other_count, Scratch& scratch) {
    restart(scratch);
    visit(scratch.visited, own);
    Walk<code, true> walk(links, level, needle, ef, scratch);
    if (from != own) {
        walk.enter(from);
        if (level == 0) walk.enter(links.root);
        while (walk.expand(2)) walk.absorb();
        if (walk.pool().size() > 0) from = slot_of(walk.pool()[0]);
    }
    walk.offer_all(others, other_count);
    return walk.pool().size();
}

}  // namespace madang::MADANG_ISA
