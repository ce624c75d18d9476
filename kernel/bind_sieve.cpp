// Python's view of exact search in two passes. It knows no algorithm.
#include "bind.hpp"

#include "sift.hpp"

namespace madang::python {

namespace {

using Written = nb::ndarray<>;

void check_codes(std::int64_t dim, std::int64_t n, std::int64_t code_rows, std::int64_t stride, std::int64_t fact_rows,
                 std::int64_t facts) {
    if (dim > most_sieved) refuse("vectors: must have at most " + std::to_string(most_sieved) + " columns for codes.");
    if (stride != sieve_stride(dim) || code_rows != n)
        refuse("codes: must have the shape (" + std::to_string(n) + ", " + std::to_string(sieve_stride(dim)) + ").");
    if (facts != 4 || fact_rows != n) refuse("facts: must have the shape (" + std::to_string(n) + ", 4).");
}

void encode_codes(nb::handle vectors, const std::string& metric, nb::handle codes, nb::handle facts,
                  std::int64_t threads) {
    const Metric kind = metric_named(metric);
    check_threads(threads);
    const Array from = floats(vectors, "vectors");
    const auto to = array<std::uint8_t, Written>(codes, "codes", "uint8", 2);
    const auto more = array<float, Written>(facts, "facts", "float32", 2);
    const auto at = [](const Written& found, std::size_t axis) { return static_cast<std::int64_t>(found.shape(axis)); };
    check_codes(length(from, 1), length(from, 0), at(to, 0), at(to, 1), at(more, 0), at(more, 1));
    const nb::gil_scoped_release released;
    encode_sieve(static_cast<const float*>(from.data()), length(from, 0), length(from, 1), kind,
                 static_cast<std::uint8_t*>(to.data()), static_cast<float*>(more.data()), threads);
}

Problem problem_of(const Array& vectors, const Array& queries, std::int64_t k, Metric metric, nb::handle rows,
                   Array& listed, nb::handle mask, Array& marked) {
    static const std::int64_t nothing = 0;
    Problem made{static_cast<const float*>(vectors.data()), length(vectors, 0), length(vectors, 1), nullptr, 0, nullptr,
                 static_cast<const float*>(queries.data()), length(queries, 0), k, metric};
    if (!rows.is_none()) {
        listed = array<std::int64_t, Array>(rows, "rows", "int64", 1);
        made.row_count = length(listed, 0);
        made.rows = made.row_count == 0 ? &nothing : static_cast<const std::int64_t*>(listed.data());
        check_rows(made.rows, made.row_count, made.count);
    }
    if (!mask.is_none()) {
        marked = array<bool, Array>(mask, "mask", "bool", 1);
        if (length(marked, 0) != made.count) refuse("mask: must have one entry for each vector.");
        made.mask = static_cast<const std::uint8_t*>(marked.data());
    }
    return made;
}

nb::tuple search(nb::handle vectors, nb::handle codes, nb::handle facts, nb::handle queries, std::int64_t k,
                 const std::string& metric, nb::handle rows, nb::handle mask, std::int64_t threads) {
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    const Metric kind = metric_named(metric);
    if (k < 1 || k > most) refuse("k: must be from 1 to " + std::to_string(most) + ", got " + std::to_string(k) + ".");
    check_threads(threads);
    const Array from = floats(vectors, "vectors"), asked = floats(queries, "queries");
    if (asked.shape(1) != from.shape(1)) refuse("queries: must have as many columns as vectors.");
    const Array bytes = array<std::uint8_t, Array>(codes, "codes", "uint8", 2);
    const Array more = array<float, Array>(facts, "facts", "float32", 2);
    check_codes(length(from, 1), length(from, 0), length(bytes, 0), length(bytes, 1), length(more, 0), length(more, 1));
    Array listed, marked;
    Problem problem = problem_of(from, asked, k, kind, rows, listed, mask, marked);
    const std::int64_t n = problem.query_count;
    Prepared prepared{};
    bool finite = true;
    std::unique_ptr<std::int64_t[]> out_rows(new std::int64_t[static_cast<std::size_t>(n * k)]);
    std::unique_ptr<float[]> out_scores(new float[static_cast<std::size_t>(n * k)]);
    {
        const Released released(n * problem.dim * (problem.rows == nullptr ? problem.count : problem.row_count));
        const std::unique_ptr<float[]> scaled(new float[static_cast<std::size_t>(n * problem.dim)]);
        prepared = prepare(problem.queries, n, problem.dim, kind, scaled.get(), threads);
        problem.queries = scaled.get();
        if (prepared.refusal == Refusal::none)
            finite = sieved_search(*chosen_kernel(), problem, static_cast<const std::uint8_t*>(bytes.data()),
                                   static_cast<const float*>(more.data()), threads, out_rows.get(), out_scores.get());
    }
    check_prepared(prepared, "queries");
    if (!finite) refuse("vectors: a score is NaN, so they contain NaN or infinity or are too large; see prepare.");
    return nb::make_tuple(numpy(std::move(out_rows), n, k), numpy(std::move(out_scores), n, k));
}

}  // namespace

void bind_sieve(nb::module_& module) {
    module.def("encode_codes", &encode_codes, nb::arg("vectors").none(), nb::arg("metric"), nb::arg("codes").none(),
               nb::arg("facts").none(), nb::arg("threads") = 1,
               "Write what sieved_search needs of prepared vectors (n, dim): codes uint8 (n, dim in whole 64s) and "
               "facts float32 (n, 4).");
    module.def("sieved_search", &search, nb::arg("vectors").none(), nb::arg("codes").none(), nb::arg("facts").none(),
               nb::arg("queries").none(), nb::arg("k"), nb::arg("metric"), nb::arg("rows").none() = nb::none(),
               nb::arg("mask").none() = nb::none(), nb::arg("threads") = 1,
               "As search, with the same results: the codes tell which vectors must be read.");
}

}  // namespace madang::python
