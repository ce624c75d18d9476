// Searching cells: which of them, in what order, and what of them may be found. Nothing here locks or changes anything
// but a thread's own memory.
#pragma once

#include <atomic>
#include <limits>
#include <utility>

#include "prepare.hpp"
#include "shelf.hpp"

namespace madang {

// A search: the k best rows of every query, (query_count, k) each, padded with -1 and -infinity.
struct Probing {
    const float* queries;          // (query_count, dim), prepared
    std::int64_t query_count;
    std::int64_t k;
    std::int64_t nprobe;
    std::int64_t depth;            // candidates whose exact scores are computed, at least k
    const std::int64_t* rows;      // (row_count,) strictly ascending, or null
    std::int64_t row_count;
    const std::uint8_t* mask;      // (mask_size,) by row, or null
    std::int64_t mask_size;
    std::int64_t* out_rows;
    float* out_scores;
};

// How many vectors a search without a filter compares.
inline std::int64_t budget(const Shelf& shelf, const Probing& wanted) {
    const std::int64_t cells = shelf.centroids().count, probes = std::min(wanted.nprobe, cells);
    return std::max((shelf.live() * probes + cells - 1) / cells, wanted.depth);
}

// Which rows a search may find: those with a byte in a mask; where they are hardly more than what a search compares
// anyway, they are listed, and all of them compared.
class Permit {
public:
    Permit(const Shelf& shelf, const Probing& wanted) {
        const std::int64_t most = 2 * budget(shelf, wanted);
        if (wanted.rows != nullptr) allow_rows(shelf, wanted.rows, wanted.row_count, most);
        else if (wanted.mask != nullptr) allow_mask(shelf, wanted.mask, wanted.mask_size, most);
    }

    bool free() const { return mask_ == nullptr && !few_; }
    bool few() const { return few_; }
    bool allows(std::int64_t row) const { return row < size_ && mask_[row] != 0; }
    const std::vector<Slot>& listed() const { return listed_; }   // ascending
    const std::vector<Shelf::Run>& runs() const { return runs_; } // of the listed ones

private:
    void allow_rows(const Shelf& shelf, const std::int64_t* rows, std::int64_t n, std::int64_t most) {
        if (n <= most) return list(shelf, rows, n);
        size_ = rows[n - 1] + 1;
        made_.assign(static_cast<std::size_t>(size_), 0);
        for (std::int64_t i = 0; i < n; ++i) made_[static_cast<std::size_t>(rows[i])] = 1;
        mask_ = made_.data();
    }

    void allow_mask(const Shelf& shelf, const std::uint8_t* mask, std::int64_t n, std::int64_t most) {
        std::int64_t count = 0;
        for (std::int64_t i = 0; i < n; ++i) count += mask[i];
        size_ = n;
        mask_ = mask;
        if (count > most) return;
        std::vector<std::int64_t> rows;
        for (std::int64_t i = 0; i < n; ++i)
            if (mask[i] != 0) rows.push_back(i);
        list(shelf, rows.data(), static_cast<std::int64_t>(rows.size()));
    }

    void list(const Shelf& shelf, const std::int64_t* rows, std::int64_t n) {
        few_ = true;
        for (std::int64_t i = 0; i < n; ++i)
            if (const Slot slot = shelf.ledger().find(rows[i]); slot != nowhere) listed_.push_back(slot);
        std::sort(listed_.begin(), listed_.end());
        runs_ = shelf.runs_of(listed_);
    }

    const std::uint8_t* mask_ = nullptr;
    std::int64_t size_ = 0;
    bool few_ = false;
    std::vector<Slot> listed_;
    std::vector<Shelf::Run> runs_;
    std::vector<std::uint8_t> made_;
};

// One thread's searches, and the memory for them, which the next ones use again.
class Probe {
public:
    static constexpr std::int64_t together = 128;  // queries that share what they read of a cell

    // Answer some of the queries; returns how many vectors were compared.
    std::int64_t answer(const Shelf& shelf, const Kernel& kernel, const Probing& wanted, const Permit& permit,
                        Range queries) {
        shelf_ = &shelf;
        kernel_ = &kernel;
        wanted_ = &wanted;
        permit_ = &permit;
        first_ = queries.begin;
        count_ = queries.end - queries.begin;
        compared_ = 0;
        prepare_queries();
        if (permit.free() && count_ > 1) {
            visit_together();
        } else {
            for (std::int64_t i = 0; i < count_; ++i) permit.few() ? visit_listed(i) : visit_alone(i);
        }
        for (std::int64_t i = 0; i < count_; ++i) report(i);
        return compared_;
    }

private:
    static constexpr std::int64_t padding = 16;    // as pool_padding in pool.hpp

    static Tray emptied(Entry* room, std::int64_t capacity) {
        constexpr Entry nothing = 0x7FFFFFFFFFFFFFFF;
        std::fill(room, room + capacity + padding, nothing);
        room[padding / 2 - 1] = -nothing - 1;
        return {room + padding / 2, capacity, 0};
    }

    static Slot slot_of(Entry entry) { return static_cast<Slot>(entry) >> 1; }

    const float* query(std::int64_t i) const { return wanted_->queries + (first_ + i) * shelf_->dim(); }
    const float* moved(std::int64_t i) const { return moved_.get() + i * shelf_->dim(); }

    void prepare_queries() {
        const std::int64_t dim = shelf_->dim();
        const bool euclidean = shelf_->metric() == Metric::euclidean;
        const Code code = shelf_->code() == Code::nibbles ? Code::nibbles : Code::bytes;  // centroids are bytes always
        const std::int64_t bytes = needle_bytes(code, dim), capacity = std::min(wanted_->depth, shelf_->live());
        needle_room_.fit(count_ * bytes);
        moved_.fit(count_ * dim);
        entries_.fit(count_ * (capacity + padding));
        const float* centre = shelf_->centroids().centre.get();
        for (std::int64_t i = 0; i < count_; ++i) {
            float* to = moved_.get() + i * dim;
            for (std::int64_t d = 0; d < dim; ++d) to[d] = euclidean ? query(i)[d] - centre[d] : query(i)[d];
            needles_[i] = needle_for(code, to, dim, euclidean ? 1.0F : 0.0F, needle_room_.get() + i * bytes);
            trays_[i] = emptied(entries_.get() + i * (capacity + padding), capacity);
        }
    }

    // The cells nearest to a query, best first: the first `most` of them, in cells_.
    void find_cells(std::int64_t i, std::int64_t most) {
        const Centroids& centroids = shelf_->centroids();
        Needle needle = needles_[i];
        if (shelf_->code() == Code::nibbles) needle.offset *= 16;  // bytes are stored plus 128, nibbles plus 8
        if (shelf_->metric() == Metric::dot && centroids.reach > 0)
            needle.weight = static_cast<float>(std::sqrt(squared_norm(query(i), shelf_->dim()))) / centroids.reach;
        nearest_.fit(most + padding);
        Tray tray = emptied(nearest_.get(), most);
        slots_.fit(centroids.count);
        for (std::int64_t c = 0; c < centroids.count; ++c) slots_[c] = static_cast<Slot>(c);
        kernel_->sweep(centroids.table, needle, Metric::dot, slots_.get(), centroids.count, 0, tray);
        cells_.fit(most);
        for (std::int64_t j = 0; j < most; ++j) cells_[j] = slot_of(tray.entries[j]);
    }

    // What all scores in a cell have in common for a query.
    void compute_bases(std::int64_t i, const Slot* cells, std::int64_t n, float* bases) const {
        std::fill_n(bases, n, 0.0F);
        if (!shelf_->coded()) return;
        const std::int64_t dim = shelf_->dim();
        kernel_->rescore(exactly(shelf_->centroids().offsets.get(), dim), dim, Metric::dot, moved(i), cells, n, bases);
    }

    void sweep(std::int64_t i, const Slot* slots, std::int64_t n, float base) {
        const Needle needle = shelf_->coded() ? needles_[i] : Needle{query(i), 1, 0, 0, 0};
        kernel_->sweep(shelf_->table(), needle, shelf_->metric(), slots, n, base, trays_[i]);
        compared_ += n;
    }

    // The slots of a cell that may be found, in slots_; returns how many.
    std::int64_t list_cell(std::int64_t index) {
        const Cell& cell = shelf_->cells()[static_cast<std::size_t>(index)];
        slots_.fit(cell.size);
        std::int64_t n = 0;
        for (std::int64_t j = 0; j < cell.size; ++j) {
            const Slot slot = static_cast<Slot>(cell.begin + j);
            slots_[n] = slot;
            n += permit_->free() || permit_->allows(shelf_->row_of(slot)) ? 1 : 0;
        }
        return n;
    }

    // The queries read each cell one after the other, while it lies in the cache.
    void visit_together() {
        const std::int64_t most = std::min(wanted_->nprobe, shelf_->centroids().count);
        visits_.clear();
        bases_.fit(count_ * most);
        for (std::int64_t i = 0; i < count_; ++i) {
            find_cells(i, most);
            compute_bases(i, cells_.get(), most, bases_.get() + i * most);
            for (std::int64_t j = 0; j < most; ++j) {
                const auto at = static_cast<std::uint64_t>(i * most + j);
                visits_.push_back(static_cast<std::uint64_t>(cells_[j]) << 32 | at);
            }
        }
        std::sort(visits_.begin(), visits_.end());
        std::int64_t listed = -1, n = 0;
        for (const std::uint64_t visit : visits_) {
            const auto cell = static_cast<std::int64_t>(visit >> 32);
            const auto at = static_cast<std::int64_t>(visit & 0xFFFFFFFF);
            if (cell != listed) n = list_cell(cell);
            listed = cell;
            sweep(at / most, slots_.get(), n, bases_[at]);
        }
    }

    // Cell after cell, the nearest first; with a filter until as many were compared as without.
    void visit_alone(std::int64_t i) {
        const std::int64_t all = shelf_->centroids().count, first = std::min(wanted_->nprobe, all);
        const std::int64_t enough = budget(*shelf_, *wanted_), before = compared_;
        std::int64_t most = permit_->free() ? first : std::min(4 * first, all), done = 0;
        for (;; most = all) {
            find_cells(i, most);
            bases_.fit(most);
            compute_bases(i, cells_.get() + done, most - done, bases_.get() + done);
            for (; done < most && (done < first || compared_ - before < enough); ++done) {
                const std::int64_t n = list_cell(cells_[done]);
                sweep(i, slots_.get(), n, bases_[done]);
            }
            if (permit_->free() || compared_ - before >= enough || most == all) return;
        }
    }

    void visit_listed(std::int64_t i) {
        const std::vector<Shelf::Run>& runs = permit_->runs();
        const auto n = static_cast<std::int64_t>(runs.size());
        cells_.fit(n);
        bases_.fit(n);
        for (std::int64_t r = 0; r < n; ++r) cells_[r] = static_cast<Slot>(runs[static_cast<std::size_t>(r)].cell);
        compute_bases(i, cells_.get(), n, bases_.get());
        for (std::int64_t r = 0; r < n; ++r) {
            const Shelf::Run& run = runs[static_cast<std::size_t>(r)];
            sweep(i, permit_->listed().data() + run.begin, run.end - run.begin, bases_[r]);
        }
    }

    // Exact scores of the best candidates, and of these the k best.
    void report(std::int64_t i) {
        const std::int64_t n = trays_[i].size, dim = shelf_->dim(), k = wanted_->k;
        slots_.fit(n);
        scores_.fit(n);
        for (std::int64_t j = 0; j < n; ++j) slots_[j] = slot_of(trays_[i].entries[j]);
        kernel_->rescore(exactly(shelf_->vectors(), dim), dim, shelf_->metric(), query(i), slots_.get(), n, scores_.get());
        hits_.clear();
        for (std::int64_t j = 0; j < n; ++j) hits_.push_back({scores_[j], shelf_->row_of(slots_[j])});
        const std::int64_t kept = std::min(n, k);
        constexpr Hit nothing{-std::numeric_limits<float>::infinity(), -1};
        std::partial_sort(hits_.begin(), hits_.begin() + kept, hits_.end(), [](const Hit& a, const Hit& b) {
            return a.score > b.score || (a.score == b.score && a.row < b.row);
        });
        for (std::int64_t j = 0; j < k; ++j) {
            const bool found = j < kept;
            const Hit hit = found ? hits_[static_cast<std::size_t>(j)] : nothing;
            wanted_->out_rows[(first_ + i) * k + j] = hit.row;
            wanted_->out_scores[(first_ + i) * k + j] = hit.score;
        }
    }

    const Shelf* shelf_ = nullptr;
    const Kernel* kernel_ = nullptr;
    const Probing* wanted_ = nullptr;
    const Permit* permit_ = nullptr;
    std::int64_t first_ = 0, count_ = 0, compared_ = 0;
    Needle needles_[together];
    Tray trays_[together];
    Buffer<char> needle_room_;
    Buffer<float> moved_;          // queries less the centre
    Buffer<Entry> entries_, nearest_;
    Buffer<Slot> slots_, cells_;
    Buffer<float> bases_, scores_;
    std::vector<std::uint64_t> visits_;
    std::vector<Hit> hits_;
};

}  // namespace madang
