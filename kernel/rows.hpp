// Rows are the numbers that callers know vectors by; slots are where they lie. Rows are never reused, slots are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "world.hpp"

namespace madang {

class RowMap {
public:
    // The slot of a row, or no_slot. While no slot was reused, rows are slots and nothing is stored.
    Slot slot_of(std::int64_t row, const World& world) const {
        if (same_) return row >= 0 && row < world.used && world.live[static_cast<Slot>(row)] ? static_cast<Slot>(row) : no_slot;
        const auto at = std::lower_bound(rows_.begin(), rows_.end(), row);
        const Slot slot = at == rows_.end() || *at != row ? no_slot : slots_[static_cast<std::size_t>(at - rows_.begin())];
        return slot != no_slot && world.live[slot] ? slot : no_slot;
    }

    std::int64_t row_of(Slot slot) const { return same_ ? static_cast<std::int64_t>(slot) : row_of_[slot]; }

    // After the world grew; slots that have no row yet have one that no mask reaches.
    void fit(const World& world) {
        if (!same_) row_of_.resize(static_cast<std::size_t>(world.capacity), std::numeric_limits<std::int64_t>::max());
    }

    bool same() const { return same_; }

    // Before anything but row = slot is set.
    void tell_apart(const World& world) {
        if (!same_) return;
        same_ = false;
        fit(world);
        for (Slot slot = 0; slot < world.used; ++slot) {
            row_of_[slot] = slot;
            if (!world.live[slot]) continue;
            rows_.push_back(slot);
            slots_.push_back(slot);
        }
    }

    void set(std::int64_t row, Slot slot) {
        if (same_) return;
        row_of_[slot] = row;
        const auto at = std::lower_bound(rows_.begin(), rows_.end(), row);
        const auto place = at - rows_.begin();
        if (at != rows_.end() && *at == row) {
            slots_[static_cast<std::size_t>(place)] = slot;
            return;
        }
        rows_.insert(at, row);
        slots_.insert(slots_.begin() + place, slot);
    }

    void forget(std::int64_t row) {
        if (same_) return;
        const auto at = std::lower_bound(rows_.begin(), rows_.end(), row);
        if (at == rows_.end() || *at != row) return;
        slots_[static_cast<std::size_t>(at - rows_.begin())] = no_slot;
        if (++gone_ * 4 < static_cast<std::int64_t>(rows_.size()) + 64) return;
        std::size_t n = 0;
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            if (slots_[i] == no_slot) continue;
            rows_[n] = rows_[i];
            slots_[n++] = slots_[i];
        }
        rows_.resize(n);
        slots_.resize(n);
        gone_ = 0;
    }

    // After slots moved: `place` tells where to.
    void move(const std::vector<Slot>& place, const World& world) {
        for (Slot& slot : slots_)
            if (slot != no_slot) slot = place[slot];
        row_of_.clear();
        fit(world);
        for (std::size_t i = 0; i < rows_.size(); ++i)
            if (slots_[i] != no_slot) row_of_[slots_[i]] = rows_[i];
    }

    // From a file: the ascending rows of slots 0 to n - 1.
    void restore(std::vector<std::int64_t> rows) {
        same_ = false;
        row_of_ = rows;
        rows_ = std::move(rows);
        slots_.resize(rows_.size());
        for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i] = static_cast<Slot>(i);
    }

    std::int64_t bytes() const {
        return static_cast<std::int64_t>(row_of_.size() * 8 + rows_.size() * 8 + slots_.size() * 4);
    }

private:
    bool same_ = true;
    std::vector<std::int64_t> rows_;    // ascending
    std::vector<Slot> slots_;           // of rows_; no_slot where removed
    std::vector<std::int64_t> row_of_;  // by slot
    std::int64_t gone_ = 0;
};

}  // namespace madang
