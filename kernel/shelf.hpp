// Vectors in cells, in memory: every cell's codes lie in a row of slots, in the order of their rows, with room for a
// few more behind them. Nothing here locks or searches.
//
// A code stands for what a vector differs from its cell's centroid, which is smaller than the vector, so that rounding
// costs less. The score of slot x in cell c for a query q is then, up to a constant of the query,
//   (q - m) . (c - m) + (q - m) . code(x) - |c - m + code(x)|^2 / 2     Euclidean, m the mean of the centroids;
//   q . (c - m) + q . code(x)                                           otherwise.
#pragma once

#include <utility>
#include <vector>

#include "encode.hpp"
#include "memory.hpp"
#include "parallel.hpp"
#include "types.hpp"

namespace madang {

constexpr Slot nowhere = 0xFFFFFFFFU;

struct Cell {
    std::int64_t begin;  // its first slot
    std::int64_t size;
    std::int64_t room;   // slots from `begin` on that are its own
};

// Where each row lies. Rows come in ascending order and are found by halving.
class Ledger {
public:
    Slot find(std::int64_t row) const {
        const std::int64_t at = place(row);
        return at < 0 ? nowhere : slots_[static_cast<std::size_t>(at)];
    }

    // A row above all others, or one that is there.
    void set(std::int64_t row, Slot slot) {
        if (rows_.empty() || row > rows_.back()) {
            rows_.push_back(row);
            slots_.push_back(slot);
            return;
        }
        slots_[static_cast<std::size_t>(place(row))] = slot;
    }

    void forget(std::int64_t row) {
        slots_[static_cast<std::size_t>(place(row))] = nowhere;
        if (++gone_ * 4 < static_cast<std::int64_t>(rows_.size()) + 64) return;
        std::size_t n = 0;
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            if (slots_[i] == nowhere) continue;
            rows_[n] = rows_[i];
            slots_[n++] = slots_[i];
        }
        rows_.resize(n);
        slots_.resize(n);
        gone_ = 0;
    }

    // All rows and their slots; removed ones are nowhere.
    const std::vector<std::int64_t>& rows() const { return rows_; }
    const std::vector<Slot>& slots() const { return slots_; }
    std::int64_t bytes() const {
        return static_cast<std::int64_t>(rows_.size() * (sizeof(std::int64_t) + sizeof(Slot)));
    }

private:
    std::int64_t place(std::int64_t row) const {
        if (rows_.empty() || row < 0 || row > rows_.back()) return -1;
        const auto dense = static_cast<std::size_t>(row);
        if (dense < rows_.size() && rows_[dense] == row) return row;  // nothing below it was removed
        const auto at = std::lower_bound(rows_.begin(), rows_.end(), row);
        return at != rows_.end() && *at == row ? at - rows_.begin() : -1;
    }

    std::vector<std::int64_t> rows_;
    std::vector<Slot> slots_;
    std::int64_t gone_ = 0;
};

// What the centroids are: known when the cells are made, and never changed.
struct Centroids {
    std::int64_t count = 0;
    Buffer<float> centre;         // (dim,) m above
    Buffer<float> offsets;        // (count, dim) c - m
    Buffer<std::uint8_t> records; // the codes of the offsets
    Buffer<float> facts;          // (count, 2): scale and bias
    float reach = 0;              // dot: what a query's length is compared with; see ivf.py
    Table table{};
};

// The codes of centroids (count, dim); `bias` (count,) is what a probe's score has added to the product.
inline Centroids centroids_of(const float* values, const float* bias, std::int64_t count, std::int64_t dim,
                              float reach) {
    Centroids made;
    made.count = count;
    made.reach = reach;
    made.centre.resize(dim);
    made.offsets.resize(count * dim);
    std::vector<double> sums(static_cast<std::size_t>(dim));
    for (std::int64_t c = 0; c < count; ++c)
        for (std::int64_t d = 0; d < dim; ++d) sums[static_cast<std::size_t>(d)] += values[c * dim + d];
    for (std::int64_t d = 0; d < dim; ++d)
        made.centre[d] = static_cast<float>(sums[static_cast<std::size_t>(d)] / static_cast<double>(count));
    const std::int64_t stride = code_bytes(Code::bytes, dim);
    made.records.resize(count * stride + code_line);  // registers are loaded whole
    std::memset(made.records.get() + count * stride, 0, code_line);
    made.facts.resize(2 * count);
    for (std::int64_t c = 0; c < count; ++c) {
        float* offset = made.offsets.get() + c * dim;
        for (std::int64_t d = 0; d < dim; ++d) offset[d] = values[c * dim + d] - made.centre[d];
        made.facts[2 * c] = encode(Code::bytes, offset, dim, made.records.get() + c * stride).scale;
        made.facts[2 * c + 1] = bias[c];
    }
    made.table = {made.records.get(), stride, 0, made.facts.get(), dim, Code::bytes, false};
    return made;
}

class Shelf {
public:
    Shelf(std::int64_t dim, Metric metric, Code code) : dim_(dim), metric_(metric), code_(code) {}

    std::int64_t dim() const { return dim_; }
    Metric metric() const { return metric_; }
    Code code() const { return code_; }
    bool coded() const { return code_ != Code::floats; }
    std::int64_t stride() const { return coded() ? code_bytes(code_, dim_) : dim_ * 4; }
    std::int64_t used() const { return used_; }
    const std::vector<Cell>& cells() const { return cells_; }
    const Centroids& centroids() const { return centroids_; }
    const Ledger& ledger() const { return ledger_; }
    std::int64_t row_of(Slot slot) const { return rows_[slot]; }
    const float* vectors() const { return coded() ? vectors_.get() : reinterpret_cast<const float*>(records_.get()); }
    const float* vector(Slot slot) const { return vectors() + slot * dim_; }
    Table table() const { return {records_.get(), stride(), 0, facts_.get(), dim_, code_, false}; }
    std::int64_t live() const { return live_; }

    // Empty cells around centroids.
    void start(Centroids centroids) {
        centroids_ = std::move(centroids);
        cells_.assign(static_cast<std::size_t>(centroids_.count), Cell{0, 0, 0});
        used_ = live_ = capacity_ = 0;
    }

    // Room for `more[c]` vectors in each cell. A cell that is full moves behind the others; where that would leave too
    // much unused, all of them move together.
    void make_room(const std::vector<std::int64_t>& more) {
        std::int64_t moved = 0, coming = 0;
        for (std::size_t c = 0; c < cells_.size(); ++c) {
            const std::int64_t needed = cells_[c].size + more[c];
            if (needed > cells_[c].room) moved += with_slack(needed);
            coming += more[c];
        }
        const std::int64_t end = used_ + moved;
        if (end > capacity_ || wasteful(end, live_ + coming)) return pack(more, true);
        for (std::size_t c = 0; c < cells_.size(); ++c) {
            Cell& cell = cells_[c];
            const std::int64_t needed = cell.size + more[c];
            if (needed <= cell.room) continue;
            const Cell to{used_, cell.size, with_slack(needed)};
            copy(*this, cell.begin, to.begin, cell.size);
            cell = to;
            used_ += to.room;
            enter(cell);
        }
    }

    // Lay the cells out one behind the other, with room for `more` each and, if wanted, some slack.
    void pack(const std::vector<std::int64_t>& more, bool slack) {
        std::int64_t total = 0;
        for (std::size_t c = 0; c < cells_.size(); ++c) {
            const std::int64_t needed = cells_[c].size + more[c];
            total += slack ? with_slack(needed) : needed;
        }
        Shelf next(dim_, metric_, code_);
        next.reserve(slack ? total + total / 8 : total);
        for (std::size_t c = 0; c < cells_.size(); ++c) {
            const std::int64_t needed = cells_[c].size + more[c];
            const Cell to{next.used_, cells_[c].size, slack ? with_slack(needed) : needed};
            next.copy(*this, cells_[c].begin, to.begin, to.size);
            next.cells_.push_back(to);
            next.used_ += to.room;
        }
        records_ = next.records_;
        facts_ = next.facts_;
        vectors_ = next.vectors_;
        rows_ = next.rows_;
        cells_ = std::move(next.cells_);
        used_ = next.used_;
        capacity_ = next.capacity_;
        for (const Cell& cell : cells_) enter(cell);
    }

    bool packed() const { return capacity_ == live_; }
    bool wasteful() const { return wasteful(used_, live_); }

    // Write a vector behind those of its cell, where there is room; `publish` makes it count.
    void write(Slot slot, std::int64_t cell, const float* vector, std::int64_t row, float* room) {
        rows_[slot] = row;
        float* exact = (coded() ? vectors_.get() : reinterpret_cast<float*>(records_.get())) + slot * dim_;
        std::copy_n(vector, dim_, exact);
        if (!coded()) return;
        const float* offset = centroids_.offsets.get() + cell * dim_;
        for (std::int64_t d = 0; d < dim_; ++d) room[d] = vector[d] - centroids_.centre[d] - offset[d];
        std::uint8_t* record = records_.get() + slot * stride();
        float* fact = facts_.get() + 2 * std::int64_t{slot};
        fact[0] = encode(code_, room, dim_, record).scale;
        fact[1] = 0;
        if (metric_ != Metric::euclidean) return;
        double norm = 0;
        for (std::int64_t d = 0; d < dim_; ++d) {
            const double value = offset[d] + static_cast<double>(fact[0]) * decoded(record, d);
            norm += value * value;
        }
        fact[1] = static_cast<float>(-norm / 2);
    }

    // One more vector of the cell counts. Rows that are new come here in ascending order.
    void publish(std::int64_t cell, Slot slot) {
        ledger_.set(rows_[slot], slot);
        ++cells_[static_cast<std::size_t>(cell)].size;
        ++live_;
    }

    // Take what lies in a slot out; `tidy` then closes the gap.
    void take_out(Slot slot) { rows_[slot] = -1; }
    void forget(std::int64_t row) { ledger_.forget(row); }

    // Close a cell's gaps and put it in the order of its rows.
    void tidy(std::int64_t index) {
        Cell& cell = cells_[static_cast<std::size_t>(index)];
        std::vector<Slot> kept;
        bool ordered = true;
        for (std::int64_t i = 0; i < cell.size; ++i) {
            const Slot slot = static_cast<Slot>(cell.begin + i);
            if (rows_[slot] < 0) continue;
            if (!kept.empty() && rows_[slot] < rows_[kept.back()]) ordered = false;
            kept.push_back(slot);
        }
        const auto n = static_cast<std::int64_t>(kept.size());
        if (ordered) {
            for (std::int64_t i = 0; i < n; ++i) {
                const Slot from = kept[static_cast<std::size_t>(i)];
                if (from != cell.begin + i) copy(*this, from, cell.begin + i, 1);
            }
        } else {
            std::sort(kept.begin(), kept.end(), [&](Slot a, Slot b) { return rows_[a] < rows_[b]; });
            Shelf aside(dim_, metric_, code_);
            aside.reserve(n);
            for (std::int64_t i = 0; i < n; ++i) aside.copy(*this, kept[static_cast<std::size_t>(i)], i, 1);
            copy(aside, 0, cell.begin, n);
        }
        live_ -= cell.size - n;
        cell.size = n;
        enter(cell);
    }

    // Slots begin to end of an ascending list lie in one cell.
    struct Run {
        std::int64_t cell, begin, end;
    };

    std::vector<Run> runs_of(const std::vector<Slot>& slots) const {
        std::vector<std::pair<std::int64_t, std::int64_t>> begins;  // and whose they are
        if (slots.empty()) return {};
        for (std::size_t c = 0; c < cells_.size(); ++c)
            if (cells_[c].room > 0) begins.emplace_back(cells_[c].begin, static_cast<std::int64_t>(c));
        std::sort(begins.begin(), begins.end());
        std::vector<Run> found;
        auto next = begins.begin();
        const auto n = static_cast<std::int64_t>(slots.size());
        for (std::int64_t i = 0; i < n; ++i) {
            const std::pair<std::int64_t, std::int64_t> last{slots[static_cast<std::size_t>(i)], centroids_.count};
            next = std::upper_bound(next, begins.end(), last);
            const std::int64_t cell = (next - 1)->second;
            if (found.empty() || found.back().cell != cell) found.push_back({cell, i, i});
            found.back().end = i + 1;
        }
        return found;
    }

    // Of every live row, ascending: its slot.
    std::vector<Slot> order() const {
        std::vector<Slot> found;
        found.reserve(static_cast<std::size_t>(live_));
        for (const Slot slot : ledger_.slots())
            if (slot != nowhere) found.push_back(slot);
        return found;
    }

    std::int64_t search_bytes() const {
        const std::int64_t each = stride() + (coded() ? 4 + (metric_ == Metric::euclidean ? 4 : 0) : 0) + 8;
        return used_ * each + centroids_.count * (centroids_.table.stride + 8 + 4 * dim_ + 24) + ledger_.bytes();
    }
    std::int64_t total_bytes() const { return search_bytes() + (coded() ? used_ * dim_ * 4 : 0); }

    friend struct ShelfParts;

private:
    static std::int64_t with_slack(std::int64_t size) { return size == 0 ? 0 : size + size / 8 + 2; }
    // More than a quarter and some small change is unused.
    static bool wasteful(std::int64_t slots, std::int64_t live) { return (slots - live) * 4 > slots + 256; }

    double decoded(const std::uint8_t* record, std::int64_t d) const {
        if (code_ == Code::bytes) return record[d] - 128;
        const std::uint8_t both = record[d / (2 * code_line) * code_line + d % code_line];
        return (d / code_line % 2 == 0 ? both & 15 : both >> 4) - 8;
    }

    void reserve(std::int64_t capacity) {
        records_.resize(capacity * stride() + code_line);  // registers are loaded whole
        std::memset(records_.get() + capacity * stride(), 0, code_line);
        if (coded()) {
            facts_.resize(2 * capacity);
            vectors_.resize(capacity * dim_);
        }
        rows_.resize(capacity);
        capacity_ = capacity;
    }

    void copy(const Shelf& from, std::int64_t begin, std::int64_t to, std::int64_t n) {
        if (n == 0) return;
        move_values(records_, from.records_, to, begin, n, stride());
        move_values(rows_, from.rows_, to, begin, n, 1);
        if (!coded()) return;
        move_values(facts_, from.facts_, to, begin, n, 2);
        move_values(vectors_, from.vectors_, to, begin, n, dim_);
    }

    template <class T>
    static void move_values(const Buffer<T>& into, const Buffer<T>& from, std::int64_t to, std::int64_t begin,
                            std::int64_t n, std::int64_t each) {
        std::memmove(into.get() + to * each, from.get() + begin * each, static_cast<std::size_t>(n * each) * sizeof(T));
    }

    // Tell the ledger where the cell's rows are now.
    void enter(const Cell& cell) {
        for (std::int64_t i = 0; i < cell.size; ++i) {
            const Slot slot = static_cast<Slot>(cell.begin + i);
            if (rows_[slot] >= 0) ledger_.set(rows_[slot], slot);
        }
    }

    std::int64_t dim_;
    Metric metric_;
    Code code_;
    Buffer<std::uint8_t> records_;
    Buffer<float> facts_;          // (capacity, 2): scale and bias; none where the records are the vectors themselves
    Buffer<float> vectors_;        // (capacity, dim) as prepared
    Buffer<std::int64_t> rows_;    // by slot; -1 where taken out
    std::vector<Cell> cells_;
    Centroids centroids_;
    Ledger ledger_;
    std::int64_t used_ = 0, live_ = 0, capacity_ = 0;
};

}  // namespace madang
