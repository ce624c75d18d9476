// Python's view of exact search: checks what comes in, releases the GIL, and hands results out as NumPy arrays. It
// knows no algorithm.
#include "bind.hpp"

#include <cstdlib>

#include "search.hpp"

namespace {

using namespace madang::python;

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
        const Released released(n * problem.dim * (problem.rows == nullptr ? problem.count : problem.row_count));
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

bool all_finite(nb::handle values) {
    const Array from = array<float, Array>(values, "values", "float32", 1);
    const auto* bits = static_cast<const std::uint32_t*>(from.data());
    constexpr std::uint32_t exponent = 0x7F800000;
    unsigned found = 0;
    for (std::int64_t i = 0, n = length(from, 0); i < n; ++i) found |= static_cast<unsigned>((bits[i] & exponent) == exponent);
    return found == 0;
}

}  // namespace

NB_MODULE(_kernel, module) {
    module.doc() = "The index kernel. Arrays are C-contiguous NumPy arrays; what is wrong with one is a ValueError.";
    if (const char* wanted = std::getenv("MADANG_ISA"); wanted != nullptr && *wanted != '\0')
        madang::choose_kernel(wanted);

    bind_graph(module);
    bind_cells(module);
    bind_sieve(module);
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
    module.def("all_finite", &all_finite, nb::arg("values").none(), "Whether no value of a float32 array (n,) is NaN or infinity.");
    module.def("search", &search, nb::arg("vectors").none(), nb::arg("queries").none(), nb::arg("k"), nb::arg("metric"),
               nb::arg("rows").none() = nb::none(), nb::arg("mask").none() = nb::none(), nb::arg("threads") = 1,
               "The k best of prepared vectors (n, dim) for raw queries (q, dim): rows (q, k) int64 padded with -1, "
               "scores (q, k) float32 padded with -inf. `rows` (strictly ascending int64) and `mask` (bool, n) "
               "restrict the candidates; `threads` 0 means all cores. Raises ValueError.");
}
