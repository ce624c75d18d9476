// Beam search through one level of a small world.
#pragma once

#include "codes.hpp"
#include "pool.hpp"

namespace madang::MADANG_ISA {

constexpr std::int64_t ahead = 32;  // records fetched before they are compared

// Compares slots with a needle and keeps the best in a pool.
template <Code code, bool biased>
class Comparer {
public:
    Comparer() = default;
    // Of what enters the pool, the `link_bytes` behind its code are fetched, since they will be followed.
    Comparer(const Table& table, const Needle& needle, std::int64_t depth, Scratch& scratch, std::int64_t link_bytes = 0)
        : rows_(table, needle), scratch_(&scratch), pool_(scratch.pool, depth), link_bytes_(link_bytes) {}

    void prefetch(Slot slot) const { rows_.prefetch(slot); }

    // Compare the first `n` pending slots, of which `ahead` were fetched.
    void compare(std::int64_t n) {
        Slot* pending = scratch_->pending;
        float* scores = scratch_->scores;
        if (n == 0) return;
        for (std::int64_t j = n; j < n + 3; ++j) pending[j] = pending[n - 1];  // pads the last four
        scratch_->evaluations += n;
        for (std::int64_t j = 0; j < n; j += 4) {
            for (std::int64_t f = j + ahead; f < j + ahead + 4 && f < n; ++f) rows_.prefetch(pending[f]);
            rows_.score(pending + j, scores + j);
        }
        offer(n);
    }

    const Pool& pool() const { return pool_; }
    Pool& pool() { return pool_; }

private:
    void offer(std::int64_t n) {
        const Slot* pending = scratch_->pending;
        float* scores = scratch_->scores;
        for (std::int64_t j = n; j % lanes != 0; ++j) scores[j] = -__builtin_inff();
        Pool pool = pool_;  // local, so that it may live in registers
        pool.narrow();
        for (std::int64_t j = 0; j < n; j += lanes) {
            for (unsigned good = at_least(scores + j, pool.bar()); good != 0; good &= good - 1) {
                const std::int64_t i = j + __builtin_ctz(good);
                if (i < n && pool.offer(entry_of(scores[i], pending[i])))
                    rows_.prefetch_links(pending[i], link_bytes_);
            }
        }
        pool_ = pool;
    }

    Rows<code, biased> rows_;
    Scratch* scratch_;
    Pool pool_;
    std::int64_t link_bytes_;
};

inline bool may(const Allowed& allowed, Slot slot) { return (allowed.bits[slot >> 6] >> (slot & 63) & 1) != 0; }

// Mark a slot as seen; whether it was not. A bit for each, so that a search's marks stay in the nearest cache.
inline bool visit(std::uint8_t* visited, Slot slot) {
    std::uint8_t& byte = visited[slot >> 3];
    const unsigned bit = 1U << (slot & 7), old = byte;
    byte = static_cast<std::uint8_t>(old | bit);
    return (old & bit) == 0;
}

// How many links a list of `width` places has: those before the first that holds the slot itself.
inline std::int64_t degree_of(const Slot* list, std::int64_t width, Slot own) {
    std::int64_t j = 0;
#if MADANG_LANES == 16
    for (; j + 16 <= width; j += 16)
        if (const unsigned unused = _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(list + j), _mm512_set1_epi32(static_cast<int>(own))))
            return j + __builtin_ctz(unused);
#elif MADANG_LANES == 8
    for (; j + 8 <= width; j += 8) {
        const __m256i places = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(list + j));
        const __m256i unused = _mm256_cmpeq_epi32(places, _mm256_set1_epi32(static_cast<int>(own)));
        if (const auto bits = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(unused))))
            return j + __builtin_ctz(bits);
    }
#endif
    while (j < width && list[j] != own) ++j;
    return j;
}

// Mark the links of a list and write down what was new; returns how many.
inline std::int64_t visit_all(std::uint8_t* visited, const Slot* list, std::int64_t width, Slot own, Slot* fresh) {
    std::int64_t n = 0;
    width = degree_of(list, width, own);
    for (std::int64_t j = 0; j < width; ++j) {
        const Slot slot = list[j];
        fresh[n] = slot;
        n += visit(visited, slot) ? 1 : 0;
    }
    return n;
}

// The lists of one level.
class Level {
public:
    Level() = default;
    Level(const Links& links, int level) : links_(links), level_(level) {}

    std::int64_t width() const { return level_ == 0 ? links_.width : links_.upper_width; }

    std::int64_t upper_width() const { return links_.upper_width; }

    const Slot* list(Slot slot) const { return list(slot, level_); }

    const Slot* list(Slot slot, int level) const {
        if (level == 0)
            return reinterpret_cast<const Slot*>(links_.table.records + slot * links_.table.stride
                                                 + links_.table.links_at);
        return links_.upper + (links_.upper_at[slot] + level - 1) * links_.upper_width;
    }

    void prefetch(Slot slot) const {
        const auto* at = reinterpret_cast<const char*>(list(slot));
        for (std::int64_t i = 0; i < width() * static_cast<std::int64_t>(sizeof(Slot)); i += line_bytes)
            __builtin_prefetch(at + i);
    }

private:
    Links links_;
    int level_;
};

// One search on its way. `expand` follows the best candidates and starts fetching what they lead to; `absorb`
// compares it. Between the two there is time for another search.
template <Code code, bool biased>
class Walk {
public:
    Walk() = default;
    Walk(const Links& links, int level, const Needle& needle, std::int64_t ef, Scratch& scratch)
        : level_(links, level), comparer_(links.table, needle, ef, scratch,
                                             level == 0 ? links.width * static_cast<std::int64_t>(sizeof(Slot)) : 0), pending_(scratch.pending),
          visited_(scratch.visited) {}

    // Compare one slot right away, unless it was.
    void enter(Slot slot) {
        if (!visit(visited_, slot)) return;
        pending_[0] = slot;
        comparer_.compare(1);
    }

    void stop_at(const Stop& stop, float square) { comparer_.pool().stop_at(stop, square); }

    // Begin on the highest level: `expand` goes down by itself. What is compared on the way stays a candidate.
    void start(const Links& links) {
        height_ = links.top;
        root_ = links.root;
        enter(links.entry);
        if (height_ == 0) enter(root_);
    }

    // Follow up to `beam` candidates; false when there are none left.
    bool expand(int beam) {
        if (height_ > 0 && step_down()) return true;
        const std::int64_t width = level_.width();
        std::int64_t n = 0;
        bool any = false;
        for (int i = 0; i < beam; ++i) {
            const Entry entry = comparer_.pool().next();
            if (entry == no_entry) break;
            any = true;
            n += visit_all(visited_, level_.list(slot_of(entry)), width, slot_of(entry), pending_ + n);
        }
        fetch(n);
        return any;
    }

    // The same among allowed slots only: see find_among.
    bool expand_allowed(int beam, const Allowed& allowed) {
        count_ = 0;
        bool any = false;
        for (int i = 0; i < beam; ++i) {
            const Entry entry = comparer_.pool().next();
            if (entry == no_entry) break;
            any = true;
            follow(slot_of(entry), allowed);
        }
        fetch(count_);
        return any;
    }

    // Go on from a slot that is not allowed itself.
    void pass(Slot slot, const Allowed& allowed) {
        count_ = 0;
        visit(visited_, slot);
        follow(slot, allowed);
        fetch(count_);
        absorb();
    }

    void absorb() { comparer_.compare(count_); }

    // Compare slots that the level need not lead to.
    void offer_all(const Slot* slots, std::int64_t count) {
        for (std::int64_t i = 0; i < count;) {
            std::int64_t n = 0;
            for (; i < count && n < line_bytes; ++i) {
                pending_[n] = slots[i];
                n += visit(visited_, slots[i]) ? 1 : 0;
            }
            fetch(n);
            comparer_.compare(n);
        }
    }

    const Pool& pool() const { return comparer_.pool(); }

private:
    void fetch(std::int64_t n) {
        count_ = n;
        for (std::int64_t j = 0; j < n && j < ahead; ++j) comparer_.prefetch(pending_[j]);
    }

    // On the levels above the lowest only the best is followed, until there is no better; false once below them.
    bool step_down() {
        while (height_ > 0) {
            const Slot best = slot_of(comparer_.pool()[0]);
            if (best == followed_) {
                --height_;
                followed_ = none;
                continue;
            }
            followed_ = best;
            const Slot* list = level_.list(best, height_);
            count_ = 0;
            count_ = visit_all(visited_, list, level_.upper_width(), best, pending_);
            if (count_ == 0) continue;
            fetch(count_);
            return true;
        }
        enter(root_);
        return false;
    }

    void follow(Slot from, const Allowed& allowed) {
        const std::int64_t width = level_.width(), most = count_ + width;
        const Slot* list = level_.list(from);
        for (std::int64_t j = 0; j < width; ++j) {
            if (!may(allowed, list[j])) level_.prefetch(list[j]);
            else take(list[j]);
        }
        for (std::int64_t j = 0; j < width && count_ < most; ++j) {
            if (may(allowed, list[j]) || !visit(visited_, list[j])) continue;
            const Slot* further = level_.list(list[j]);
            for (std::int64_t l = 0; l < width && count_ < most; ++l)
                if (may(allowed, further[l])) take(further[l]);
        }
    }

    void take(Slot slot) {
        pending_[count_] = slot;
        count_ += visit(visited_, slot) ? 1 : 0;
    }

    Level level_;
    Comparer<code, biased> comparer_;
    Slot* pending_;
    std::uint8_t* visited_;
    std::int64_t count_ = 0;
    static constexpr Slot none = 0xFFFFFFFFU;
    int height_ = 0;         // the level it is on
    Slot followed_ = none;   // the last one on it
    Slot root_ = none;
};

}  // namespace madang::MADANG_ISA
