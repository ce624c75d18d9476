// Cells that can be searched by several threads while one changes them: what Python's IVF is. Which cell a vector
// belongs to is decided outside.
#pragma once

#include <mutex>
#include <shared_mutex>

#include "probe.hpp"

namespace madang {

class Cells {
public:
    Cells(std::int64_t dim, Metric metric, Code code, const Kernel& (*kernel)())
        : dim(dim), metric(metric), code(code), shelf_(dim, metric, code), kernel_(kernel) {}

    const std::int64_t dim;   // as the shelf's, but readable without its gate
    const Metric metric;
    const Code code;

    // Make cells around centroids, and put every vector into the one that `cell_of` (live,), by ascending row, says.
    void divide(Centroids centroids, const std::int64_t* cell_of, std::int64_t threads) {
        const std::lock_guard writing(writing_);
        Shelf next(shelf_.dim(), shelf_.metric(), shelf_.code());
        next.start(std::move(centroids));
        const std::vector<Slot> order = shelf_.order();
        const auto n = static_cast<std::int64_t>(order.size());
        std::vector<std::int64_t> rows(order.size());
        for (std::size_t i = 0; i < order.size(); ++i) rows[i] = shelf_.row_of(order[i]);
        const std::vector<Slot> places = place(next, cell_of, n);
        fill(next, places, cell_of, rows.data(), threads,
             [&](std::int64_t i) { return shelf_.vector(order[static_cast<std::size_t>(i)]); });
        for (std::int64_t i = 0; i < n; ++i) next.publish(cell_of[i], places[static_cast<std::size_t>(i)]);
        const std::unique_lock lock(gate_);
        shelf_ = std::move(next);
    }

    // Add prepared vectors as new rows, above all others and ascending, or in place of rows that are there.
    void add(const float* vectors, const std::int64_t* cell_of, const std::int64_t* rows, std::int64_t n,
             std::int64_t threads) {
        const std::lock_guard writing(writing_);
        std::vector<Slot> places;
        {
            const std::unique_lock lock(gate_);
            places = place(shelf_, cell_of, n);
        }
        // Searches go on: what is behind a cell's own they do not read.
        fill(shelf_, places, cell_of, rows, threads, [&](std::int64_t i) { return vectors + i * shelf_.dim(); });
        const std::unique_lock lock(gate_);
        std::vector<std::int64_t> mixed = take_out(rows, n);
        for (std::int64_t i = 0; i < n; ++i) shelf_.publish(cell_of[i], places[static_cast<std::size_t>(i)]);
        if (mixed.empty()) return;
        mixed.insert(mixed.end(), cell_of, cell_of + n);
        tidy(mixed);
    }

    // Remove rows; returns how many there were.
    std::int64_t remove(const std::int64_t* rows, std::int64_t n) {
        const std::lock_guard writing(writing_);
        const std::unique_lock lock(gate_);
        const std::int64_t before = shelf_.live();
        tidy(take_out(rows, n));
        for (std::int64_t i = 0; i < n; ++i)
            if (shelf_.ledger().find(rows[i]) != nowhere) shelf_.forget(rows[i]);
        return before - shelf_.live();
    }

    // As a file has it: nothing unused, and nothing of what was removed. The caller keeps writers away.
    void settle() {
        const std::lock_guard writing(writing_);
        const std::unique_lock lock(gate_);
        if (!shelf_.packed()) shelf_.pack(std::vector<std::int64_t>(shelf_.cells().size()), false);
    }

    // Returns how many vectors were compared.
    std::int64_t search(const Probing& wanted, std::int64_t wanted_threads) {
        const std::shared_lock lock(gate_);
        const std::int64_t n = wanted.query_count;
        std::fill_n(wanted.out_rows, n * wanted.k, -1);
        std::fill_n(wanted.out_scores, n * wanted.k, -std::numeric_limits<float>::infinity());
        if (shelf_.live() == 0) return 0;
        const Permit permit(shelf_, wanted);
        const std::int64_t each = permit.few() ? static_cast<std::int64_t>(permit.listed().size())
                                               : budget(shelf_, wanted) + shelf_.centroids().count;
        const double work = static_cast<double>(n) * static_cast<double>(each) * static_cast<double>(shelf_.dim()) / 4;
        const int threads = thread_count(wanted_threads, work);
        const std::int64_t chunk = std::clamp<std::int64_t>(n / threads, 1, Probe::together);
        std::atomic<std::int64_t> compared{0};
        for_each((n + chunk - 1) / chunk, threads, [&](int, std::int64_t item) {
            std::unique_ptr<Probe> probe = borrow();
            const Range queries{item * chunk, std::min(n, (item + 1) * chunk)};
            compared += probe->answer(shelf_, kernel_(), wanted, permit, queries);
            give_back(std::move(probe));
        });
        return compared;
    }

    // To be looked at with the gate held, or while nobody writes.
    Shelf& shelf() { return shelf_; }
    std::int64_t size() {
        const std::shared_lock lock(gate_);
        return shelf_.live();
    }
    std::shared_mutex& gate() { return gate_; }

private:
    // A slot for each of n vectors.
    static std::vector<Slot> place(Shelf& shelf, const std::int64_t* cell_of, std::int64_t n) {
        std::vector<std::int64_t> more(shelf.cells().size());
        for (std::int64_t i = 0; i < n; ++i) ++more[static_cast<std::size_t>(cell_of[i])];
        shelf.make_room(more);
        std::vector<Slot> places(static_cast<std::size_t>(n));
        std::fill(more.begin(), more.end(), 0);
        for (std::int64_t i = 0; i < n; ++i) {
            const auto c = static_cast<std::size_t>(cell_of[i]);
            const Cell& cell = shelf.cells()[c];
            places[static_cast<std::size_t>(i)] = static_cast<Slot>(cell.begin + cell.size + more[c]++);
        }
        return places;
    }

    template <class VectorOf>
    static void fill(Shelf& shelf, const std::vector<Slot>& places, const std::int64_t* cell_of,
                     const std::int64_t* rows, std::int64_t threads, VectorOf vector_of) {
        constexpr std::int64_t chunk = 64;
        const auto n = static_cast<std::int64_t>(places.size());
        const int used = thread_count(threads, static_cast<double>(n * shelf.dim()) * 4);
        for_each((n + chunk - 1) / chunk, used, [&](int, std::int64_t item) {
            const std::unique_ptr<float[]> room(new float[static_cast<std::size_t>(shelf.dim())]);
            for (std::int64_t i = item * chunk; i < std::min(n, (item + 1) * chunk); ++i)
                shelf.write(places[static_cast<std::size_t>(i)], cell_of[i], vector_of(i), rows[i], room.get());
        });
    }

    // The cells that these rows lie in, now with gaps.
    std::vector<std::int64_t> take_out(const std::int64_t* rows, std::int64_t n) {
        std::vector<Slot> slots;
        for (std::int64_t i = 0; i < n; ++i) {
            const Slot slot = shelf_.ledger().find(rows[i]);
            if (slot == nowhere) continue;
            slots.push_back(slot);
            shelf_.take_out(slot);
        }
        std::sort(slots.begin(), slots.end());
        std::vector<std::int64_t> cells;
        for (const Shelf::Run& run : shelf_.runs_of(slots)) cells.push_back(run.cell);
        return cells;
    }

    void tidy(std::vector<std::int64_t> cells) {
        std::sort(cells.begin(), cells.end());
        cells.erase(std::unique(cells.begin(), cells.end()), cells.end());
        for (const std::int64_t cell : cells) shelf_.tidy(cell);
        if (shelf_.wasteful()) shelf_.pack(std::vector<std::int64_t>(shelf_.cells().size()), true);
    }

    std::unique_ptr<Probe> borrow() {
        const std::lock_guard lock(probes_guard_);
        if (probes_.empty()) return std::make_unique<Probe>();
        std::unique_ptr<Probe> probe = std::move(probes_.back());
        probes_.pop_back();
        return probe;
    }

    void give_back(std::unique_ptr<Probe> probe) {
        const std::lock_guard lock(probes_guard_);
        probes_.push_back(std::move(probe));
    }

    Shelf shelf_;
    const Kernel& (*kernel_)();
    std::shared_mutex gate_;
    std::mutex writing_, probes_guard_;
    std::vector<std::unique_ptr<Probe>> probes_;
};

}  // namespace madang
