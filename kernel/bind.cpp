// Python's view of the kernel: checks what comes in, releases the GIL, and hands results out as NumPy arrays.
// It knows no algorithm. Whatever is wrong with an array is a ValueError that names the argument.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "dispatch.hpp"
#include "prepare.hpp"
#include "search.hpp"

namespace nb = nanobind;

namespace {

using madang::Metric;
using Array = nb::ndarray<nb::ro>;

[[noreturn]] void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

// An argument as a C-contiguous array in memory; `kept` keeps it alive.
template <class T, class Kind>
Kind array(nb::handle object, const char* name, const char* dtype, std::size_t ndim, Kind kept = {}) {
    if (!nb::try_cast<Kind>(object, kept))
        refuse(std::string(name) + ": must be a NumPy array of " + dtype + " that can be read here"
               + (std::is_same_v<Kind, Array> ? "." : " and written to."));
    if (kept.dtype() != nb::dtype<T>() || kept.device_type() != nb::device::cpu::value)
        refuse(std::string(name) + ": must have dtype " + dtype + "; convert with .astype("
               + (std::is_same_v<T, bool> ? "" : "np.") + dtype + ").");
    if (kept.ndim() != ndim)
        refuse(std::string(name) + ": must have " + std::to_string(ndim) + " dimension(s), got "
               + std::to_string(kept.ndim()) + "; use .reshape.");
    std::int64_t expected = 1;
    for (std::size_t i = ndim; i-- > 0; expected *= static_cast<std::int64_t>(kept.shape(i)))
        if (kept.size() > 0 && kept.shape(i) > 1 && kept.stride(i) != expected)
            refuse(std::string(name) + ": must be contiguous; use np.ascontiguousarray.");
    return kept;
}

Array floats(nb::handle object, const char* name) {
    Array found = array<float, Array>(object, name, "float32", 2);
    if (found.shape(1) < 1) refuse(std::string(name) + ": must have at least 1 column.");
    return found;
}

std::int64_t length(const Array& found, std::size_t axis) { return static_cast<std::int64_t>(found.shape(axis)); }

Metric metric_named(const std::string& name) {
    if (name == "cosine") return Metric::cosine;
    if (name == "dot") return Metric::dot;
    if (name == "euclidean") return Metric::euclidean;
    refuse("metric: '" + name + "' is unknown; choose cosine, dot or euclidean.");
}

void check_threads(std::int64_t threads) {
    if (threads < 0) refuse("threads: must be 0 (all cores) or more, got " + std::to_string(threads) + ".");
}

void check_prepared(const madang::Prepared& result, const char* name) {
    const std::string where = std::string(name) + ": row " + std::to_string(result.row);
    if (result.refusal == madang::Refusal::not_finite)
        refuse(where + " contains NaN or infinity; remove or replace it.");
    if (result.refusal == madang::Refusal::too_large)
        refuse(where + " is longer than 9.1e18, so that scores could overflow float32; scale the vectors down.");
}

// Whether the rows are strictly ascending and within [0, count).
void check_rows(const std::int64_t* rows, std::int64_t size, std::int64_t count) {
    for (std::int64_t i = 0; i < size; ++i) {
        if (rows[i] < 0 || rows[i] >= count)
            refuse("rows: " + std::to_string(rows[i]) + " is out of range; there are " + std::to_string(count)
                   + " rows.");
        if (i > 0 && rows[i] <= rows[i - 1]) refuse("rows: must be strictly ascending; use np.unique.");
    }
}

template <class T>
nb::object numpy(std::unique_ptr<T[]> data, std::int64_t rows, std::int64_t columns) {
    T* raw = data.release();
    const nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    const std::size_t shape[2] = {static_cast<std::size_t>(rows), static_cast<std::size_t>(columns)};
    return nb::ndarray<nb::numpy, T>(raw, 2, shape, owner).cast();
}

void prepare(nb::handle vectors, const std::string& metric, nb::handle out, std::int64_t threads) {
    const Metric kind = metric_named(metric);
    check_threads(threads);
    const Array from = floats(vectors, "vectors");
    nb::ndarray<> to;
    if (!out.is_none()) {
        to = array<float, nb::ndarray<>>(out, "out", "float32", 2);
        if (to.shape(0) != from.shape(0) || to.shape(1) != from.shape(1))
            refuse("out: must have the shape of vectors.");
    }
    const auto* read = static_cast<const float*>(from.data());
    auto* write = out.is_none() ? nullptr : static_cast<float*>(to.data());
    madang::Prepared result{};
    {
        const nb::gil_scoped_release released;
        result = madang::prepare(read, length(from, 0), length(from, 1), kind, write, threads);
    }
    check_prepared(result, "vectors");
}

// Arrays of one search call, checked; they must outlive the problem made of them.
struct Arguments {
    Array vectors, queries, rows, mask;

    madang::Problem problem(std::int64_t k, Metric metric) const {
        madang::Problem made{};
        made.vectors = static_cast<const float*>(vectors.data());
        made.count = length(vectors, 0);
        made.dim = length(vectors, 1);
        if (rows.is_valid()) made.rows = static_cast<const std::int64_t*>(rows.data());
        if (rows.is_valid()) made.row_count = length(rows, 0);
        if (mask.is_valid()) made.mask = static_cast<const std::uint8_t*>(mask.data());
        made.queries = static_cast<const float*>(queries.data());
        made.query_count = length(queries, 0);
        made.k = k;
        made.metric = metric;
        return made;
    }
};

Arguments arguments(nb::handle vectors, nb::handle queries, nb::handle rows, nb::handle mask) {
    Arguments made{floats(vectors, "vectors"), floats(queries, "queries"), {}, {}};
    if (made.queries.shape(1) != made.vectors.shape(1))
        refuse("queries: have " + std::to_string(made.queries.shape(1)) + " columns and vectors "
               + std::to_string(made.vectors.shape(1)) + "; they must agree.");
    if (!rows.is_none()) {
        made.rows = array<std::int64_t, Array>(rows, "rows", "int64", 1);
        check_rows(static_cast<const std::int64_t*>(made.rows.data()), length(made.rows, 0), length(made.vectors, 0));
    }
    if (!mask.is_none()) {
        made.mask = array<bool, Array>(mask, "mask", "bool", 1);
        if (made.mask.shape(0) != made.vectors.shape(0))
            refuse("mask: has " + std::to_string(made.mask.shape(0)) + " entries for "
                   + std::to_string(made.vectors.shape(0)) + " vectors; there must be one for each.");
    }
    return made;
}

nb::tuple search(nb::handle vectors, nb::handle queries, std::int64_t k, const std::string& metric, nb::handle rows,
                 nb::handle mask, std::int64_t threads) {
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    const Metric kind = metric_named(metric);
    if (k < 1 || k > most) refuse("k: must be from 1 to " + std::to_string(most) + ", got " + std::to_string(k) + ".");
    check_threads(threads);
    const Arguments checked = arguments(vectors, queries, rows, mask);
    madang::Problem problem = checked.problem(k, kind);
    const std::int64_t n = problem.query_count;
    madang::Prepared prepared{};
    bool finite = true;
    std::unique_ptr<std::int64_t[]> out_rows(new std::int64_t[static_cast<std::size_t>(n * k)]);
    std::unique_ptr<float[]> out_scores(new float[static_cast<std::size_t>(n * k)]);
    {
        const nb::gil_scoped_release released;
        std::unique_ptr<float[]> scaled;
        if (kind == Metric::cosine) scaled.reset(new float[static_cast<std::size_t>(n * problem.dim)]);
        prepared = madang::prepare(problem.queries, n, problem.dim, kind, scaled.get(), threads);
        if (scaled != nullptr) problem.queries = scaled.get();
        if (prepared.refusal == madang::Refusal::none)
            finite = madang::search(*madang::chosen_kernel(), problem, threads, out_rows.get(), out_scores.get());
    }
    check_prepared(prepared, "queries");
    if (!finite) refuse("vectors: a score is NaN, so they contain NaN or infinity or are too large; see prepare.");
    return nb::make_tuple(numpy(std::move(out_rows), n, k), numpy(std::move(out_scores), n, k));
}

}  // namespace

NB_MODULE(_kernel, module) {
    module.doc() = "The index kernel. Arrays are C-contiguous NumPy arrays; what is wrong with one is a ValueError.";
    if (const char* wanted = std::getenv("MADANG_ISA"); wanted != nullptr && *wanted != '\0')
        madang::choose_kernel(wanted);

    module.def("isa", [] { return std::string(madang::chosen_kernel().load()->name); },
               "The instruction set in use: avx512, avx2 or plain.");
    module.def("available_isas", [] {
        std::vector<std::string> names;
        for (const madang::Kernel* kernel : madang::available_kernels()) names.emplace_back(kernel->name);
        return names;
    }, "The instruction sets this CPU can run, best first.");
    module.def("set_isa", [](const std::string& name) { madang::choose_kernel(name); }, nb::arg("name"),
               "Use another instruction set in the whole process; \"auto\" for the best. The environment variable "
               "MADANG_ISA does the same at import. Raises ValueError.");
    module.def("prepare", &prepare, nb::arg("vectors").none(), nb::arg("metric"), nb::arg("out").none() = nb::none(),
               nb::arg("threads") = 1,
               "Check float32 vectors (n, dim) and write what `search` compares to `out`: for cosine unit vectors "
               "(zero stays zero), else a copy. Raises ValueError for NaN, infinity and scores that could overflow.");
    module.def("search", &search, nb::arg("vectors").none(), nb::arg("queries").none(), nb::arg("k"), nb::arg("metric"),
               nb::arg("rows").none() = nb::none(), nb::arg("mask").none() = nb::none(), nb::arg("threads") = 1,
               "The k best of prepared vectors (n, dim) for raw queries (q, dim): rows (q, k) int64 padded with -1, "
               "scores (q, k) float32 padded with -inf. `rows` (strictly ascending int64) and `mask` (bool, n) "
               "restrict the candidates; `threads` 0 means all cores. Raises ValueError.");
}
