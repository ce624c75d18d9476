// Cells as arrays, for writing them to a file and using them from there without copying.
#pragma once

#include <string>

#include "ivf.hpp"

namespace madang {

struct ShelfParts {
    std::int64_t dim, stride;
    bool coded;
    std::int64_t count;   // vectors
    std::int64_t nlist;
    float reach;
    Buffer<std::uint8_t> records, centroid_records;
    Buffer<float> facts, vectors, centre, offsets, centroid_facts;   // facts: (n, 2), scale and bias
    Buffer<std::int64_t> rows, sizes;
    Buffer<Slot> order;   // the slots of the rows in ascending order

    ShelfParts(std::int64_t dim, Metric metric, Code code, std::int64_t count, std::int64_t nlist, float reach)
        : dim(dim), stride(Shelf(dim, metric, code).stride()), coded(code != Code::floats), count(count), nlist(nlist),
          reach(reach) {}

    // A packed shelf's own memory, and copies of what is small.
    explicit ShelfParts(const Shelf& shelf)
        : ShelfParts(shelf.dim_, shelf.metric_, shelf.code_, shelf.live_, shelf.centroids_.count,
                     shelf.centroids_.reach) {
        records = shelf.records_;
        facts = shelf.facts_;
        vectors = shelf.vectors_;
        rows = shelf.rows_;
        const Centroids& centroids = shelf.centroids_;
        centre = centroids.centre;
        offsets = centroids.offsets;
        centroid_records = centroids.records;
        centroid_facts = centroids.facts;
        sizes.resize(nlist);
        for (std::int64_t c = 0; c < nlist; ++c) sizes[c] = shelf.cells_[static_cast<std::size_t>(c)].size;
        order.resize(count);
        const std::vector<Slot> slots = shelf.order();
        std::copy(slots.begin(), slots.end(), order.get());
    }

    // act(name, buffer, size) for every array.
    template <class Act>
    void each(Act act) {
        const std::int64_t codes = coded ? count : 0;
        // A line more than the codes themselves, since registers are loaded whole.
        act("records", records, count * stride + (coded ? code_line : 0));
        act("facts", facts, 2 * codes);
        act("vectors", vectors, codes * dim);
        act("rows", rows, count);
        act("order", order, count);
        act("sizes", sizes, nlist);
        act("centre", centre, nlist > 0 ? dim : 0);
        act("offsets", offsets, nlist * dim);
        act("centroid_records", centroid_records, nlist * code_bytes(Code::bytes, dim) + code_line);
        act("centroid_facts", centroid_facts, 2 * nlist);
    }

    // Make an empty shelf of the arrays; what is wrong with them, or nothing.
    std::string put_together(Shelf& shelf) const {
        if (shelf.live_ != 0) return "there are vectors already";
        std::int64_t at = 0;
        std::vector<Cell> cells;
        for (std::int64_t c = 0; c < nlist; ++c) {
            if (sizes[c] < 0 || sizes[c] > count - at) return "sizes do not add up";
            cells.push_back({at, sizes[c], sizes[c]});
            at += sizes[c];
        }
        if (at != count) return "sizes do not add up";
        Ledger ledger;
        std::int64_t before = -1;
        for (std::int64_t i = 0; i < count; ++i) {
            if (order[i] >= count || rows[order[i]] <= before) return "order does not put the rows in order";
            before = rows[order[i]];
            ledger.set(before, order[i]);
        }
        Centroids& centroids = shelf.centroids_;
        centroids = {nlist, centre, offsets, centroid_records, centroid_facts, reach, {}};
        centroids.table = {centroid_records.get(), code_bytes(Code::bytes, dim), 0, centroid_facts.get(),
                           dim, Code::bytes, false};
        shelf.records_ = records;
        shelf.facts_ = facts;
        shelf.vectors_ = vectors;
        shelf.rows_ = rows;
        shelf.cells_ = std::move(cells);
        shelf.ledger_ = std::move(ledger);
        shelf.used_ = shelf.live_ = shelf.capacity_ = count;
        return {};
    }
};

}  // namespace madang
