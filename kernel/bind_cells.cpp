// Python's view of cells. It knows no algorithm.
#include "bind.hpp"

#include <cstring>

#include "shelf_parts.hpp"

namespace madang::python {

namespace {

struct Numbers {
    Array kept;
    const std::int64_t* data() const { return static_cast<const std::int64_t*>(kept.data()); }
    std::int64_t size() const { return length(kept, 0); }
};

Numbers numbers(nb::handle object, const char* name) { return {array<std::int64_t, Array>(object, name, "int64", 1)}; }

Numbers cell_numbers(nb::handle object, std::int64_t n, std::int64_t count) {
    const Numbers made = numbers(object, "cells");
    if (made.size() != n) refuse("cells: there must be one for each vector.");
    for (std::int64_t i = 0; i < n; ++i)
        if (made.data()[i] < 0 || made.data()[i] >= count)
            refuse("cells: " + std::to_string(made.data()[i]) + " is out of range.");
    return made;
}

void divide(Cells& cells, nb::handle centroids, nb::handle bias, double reach, nb::handle cell_of,
            std::int64_t threads) {
    const Array values = floats(centroids, "centroids");
    const Array biases = array<float, Array>(bias, "bias", "float32", 1);
    const std::int64_t count = length(values, 0);
    if (count < 1 || length(values, 1) != cells.dim || length(biases, 0) != count)
        refuse("centroids: must have the shape (count, dim), and bias (count,).");
    const Numbers assigned = cell_numbers(cell_of, cells.shelf().live(), count);
    const nb::gil_scoped_release released;
    cells.divide(centroids_of(static_cast<const float*>(values.data()), static_cast<const float*>(biases.data()), count,
                              cells.dim, static_cast<float>(reach)),
                 assigned.data(), threads);
}

// Vectors come prepared.
void add(Cells& cells, nb::handle vectors, nb::handle cell_of, nb::handle rows, std::int64_t threads) {
    const Array from = floats(vectors, "vectors");
    if (length(from, 1) != cells.dim)
        refuse("vectors: must have " + std::to_string(cells.dim) + " columns.");
    const std::int64_t n = length(from, 0);
    if (2 * (cells.shelf().used() + n) > (std::int64_t{1} << 31) - 2) refuse("vectors: cells hold at most 1073741822.");
    const Numbers given = numbers(rows, "rows");
    const Numbers assigned = cell_numbers(cell_of, n, cells.shelf().centroids().count);
    if (given.size() != n) refuse("rows: there must be one for each vector.");
    const nb::gil_scoped_release released;
    cells.add(static_cast<const float*>(from.data()), assigned.data(), given.data(), n, threads);
}

std::int64_t remove(Cells& cells, nb::handle rows) {
    const Numbers given = numbers(rows, "rows");
    const nb::gil_scoped_release released;
    return cells.remove(given.data(), given.size());
}

nb::tuple search(Cells& cells, nb::handle queries, std::int64_t k, std::int64_t nprobe, std::int64_t depth,
                 nb::handle rows, nb::handle mask, std::int64_t threads) {
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    if (k < 1 || k > most) refuse("k: must be from 1 to " + std::to_string(most) + ", got " + std::to_string(k) + ".");
    if (nprobe < 1) refuse("nprobe: must be at least 1, got " + std::to_string(nprobe) + ".");
    check_threads(threads);
    const Array from = floats(queries, "queries");
    const std::unique_ptr<float[]> made = prepared(from, cells.dim, cells.metric, "queries", threads);
    const std::int64_t n = length(from, 0);
    Probing wanted{made.get(), n, k, nprobe, std::max(depth, k), nullptr, 0, nullptr, 0, nullptr, nullptr};
    Numbers allowed;
    Array marked;
    if (!rows.is_none()) {
        static const std::int64_t nothing = 0;
        allowed = numbers(rows, "rows");
        wanted.rows = allowed.data() == nullptr ? &nothing : allowed.data();
        wanted.row_count = allowed.size();
        check_rows(wanted.rows, wanted.row_count, std::numeric_limits<std::int64_t>::max());
    }
    if (!mask.is_none()) {
        static const std::uint8_t nothing = 0;
        marked = array<bool, Array>(mask, "mask", "bool", 1);
        wanted.mask = length(marked, 0) == 0 ? &nothing : static_cast<const std::uint8_t*>(marked.data());
        wanted.mask_size = length(marked, 0);
    }
    std::unique_ptr<std::int64_t[]> out_rows(new std::int64_t[static_cast<std::size_t>(n * k)]);
    std::unique_ptr<float[]> out_scores(new float[static_cast<std::size_t>(n * k)]);
    wanted.out_rows = out_rows.get();
    wanted.out_scores = out_scores.get();
    std::int64_t compared = 0;
    {
        const nb::gil_scoped_release released;
        compared = cells.search(wanted, threads);
    }
    return nb::make_tuple(numpy(std::move(out_rows), n, k), numpy(std::move(out_scores), n, k), compared);
}

nb::dict parts(Cells& cells) {
    {
        const nb::gil_scoped_release released;
        cells.settle();
    }
    const auto lock = reading(cells.gate());
    ShelfParts made(cells.shelf());
    nb::dict out;
    made.each([&](const char* name, auto& buffer, std::int64_t size) { out[name] = shared(buffer, size); });
    out["count"] = made.count;
    out["reach"] = made.reach;
    return out;
}

void restore(Cells& cells, const nb::dict& from) {
    Shelf& shelf = cells.shelf();
    ShelfParts given(cells.dim, cells.metric, cells.code, nb::cast<std::int64_t>(from["count"]),
                     static_cast<std::int64_t>(nb::len(nb::object(from["sizes"]))), nb::cast<float>(from["reach"]));
    given.each([&]<class T>(const char* name, Buffer<T>& buffer, std::int64_t size) {
        buffer = borrowed<T>(from, name, size);
    });
    std::string wrong;
    {
        const nb::gil_scoped_release released;
        wrong = given.put_together(shelf);
    }
    if (!wrong.empty()) refuse("parts: " + wrong + ".");
}

nb::dict sizes(Cells& cells) {
    const auto lock = reading(cells.gate());
    const Shelf& shelf = cells.shelf();
    nb::dict out;
    out["size"] = shelf.live();
    out["nlist"] = shelf.centroids().count;
    out["slots"] = shelf.used();
    out["search_bytes"] = shelf.search_bytes();
    out["total_bytes"] = shelf.total_bytes();
    std::int64_t largest = 0;
    for (const Cell& cell : shelf.cells()) largest = std::max(largest, cell.size);
    out["largest_cell"] = largest;
    return out;
}

// Whether each row is live.
nb::object live(Cells& cells, nb::handle rows) {
    const Numbers given = numbers(rows, "rows");
    std::unique_ptr<bool[]> found(new bool[static_cast<std::size_t>(given.size())]);
    const auto lock = reading(cells.gate());
    for (std::int64_t i = 0; i < given.size(); ++i)
        found[static_cast<std::size_t>(i)] = cells.shelf().ledger().find(given.data()[i]) != nowhere;
    return numpy(std::move(found), given.size(), 1);
}

nb::object live_rows(Cells& cells) {
    const auto lock = reading(cells.gate());
    const std::vector<Slot> order = cells.shelf().order();
    std::unique_ptr<std::int64_t[]> found(new std::int64_t[order.size()]);
    for (std::size_t i = 0; i < order.size(); ++i) found[i] = cells.shelf().row_of(order[i]);
    return numpy(std::move(found), static_cast<std::int64_t>(order.size()), 1);
}

// The vectors of live rows as they are compared.
nb::object vectors(Cells& cells, nb::handle rows) {
    const Numbers given = numbers(rows, "rows");
    const std::int64_t n = given.size(), dim = cells.dim;
    std::unique_ptr<float[]> found(new float[static_cast<std::size_t>(n * dim)]);
    const auto lock = reading(cells.gate());
    for (std::int64_t i = 0; i < n; ++i) {
        const Slot slot = cells.shelf().ledger().find(given.data()[i]);
        if (slot == nowhere) refuse("rows: " + std::to_string(given.data()[i]) + " is not in the index.");
        std::copy_n(cells.shelf().vector(slot), dim, found.get() + i * dim);
    }
    return numpy(std::move(found), n, dim);
}

}  // namespace

void bind_cells(nb::module_& module) {
    nb::class_<Cells>(module, "Cells", "Vectors in cells around centroids: what IVF is made of.")
        .def("__init__", [](Cells* self, std::int64_t dim, const std::string& metric, const std::string& code) {
            if (dim < 1 || dim > (1 << 20)) refuse("dim: must be from 1 to 1048576, got " + std::to_string(dim) + ".");
            new (self) Cells(dim, metric_named(metric), code_named(code), &chosen);
        }, nb::arg("dim"), nb::arg("metric"), nb::arg("code"))
        .def("divide", &divide, nb::arg("centroids").none(), nb::arg("bias").none(), nb::arg("reach"),
             nb::arg("cells").none(), nb::arg("threads") = 1)
        .def("add", &add, nb::arg("vectors").none(), nb::arg("cells").none(), nb::arg("rows").none(),
             nb::arg("threads") = 1)
        .def("remove", &remove, nb::arg("rows").none())
        .def("search", &search, nb::arg("queries").none(), nb::arg("k"), nb::arg("nprobe"), nb::arg("depth"),
             nb::arg("rows").none() = nb::none(), nb::arg("mask").none() = nb::none(), nb::arg("threads") = 1)
        .def("parts", &parts)
        .def("restore", &restore, nb::arg("parts"))
        .def("sizes", &sizes)
        .def("live", &live, nb::arg("rows").none())
        .def("live_rows", &live_rows)
        .def("vectors", &vectors, nb::arg("rows").none())
        .def("__len__", [](Cells& cells) { return cells.size(); });
}

}  // namespace madang::python
