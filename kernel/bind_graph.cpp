// Python's view of a graph. It knows no algorithm.
#include "bind.hpp"

#include <ctime>

#include "parts.hpp"

namespace madang::python {

namespace {

Plan plan_named(const std::string& name) {
    if (name.empty()) return Plan::choose;
    if (name == "graph") return Plan::graph;
    if (name == "codes") return Plan::codes;
    if (name == "exact") return Plan::exact;
    refuse("plan: '" + name + "' is unknown; choose graph, codes or exact, or leave it out.");
}

Shape shape_of(std::int64_t dim, const std::string& metric, const std::string& code, std::int64_t m,
               std::int64_t ef_construction, std::uint64_t seed, bool layered, double alpha, bool half) {
    // Above, the sum of products of bytes would not fit 32 bits.
    if (dim < 1 || dim > (1 << 17)) refuse("dim: must be from 1 to 131072, got " + std::to_string(dim) + ".");
    if (m < 1 || m > 512) refuse("m: must be from 1 to 512, got " + std::to_string(m) + ".");
    if (ef_construction < 1 || ef_construction > (1 << 20))
        refuse("ef_construction: must be from 1 to 1048576, got " + std::to_string(ef_construction) + ".");
    if (!(alpha >= 0 && alpha <= 4)) refuse("alpha: must be from 0 to 4.");
    return {dim, metric_named(metric), code_named(code), m, ef_construction, seed, layered, static_cast<float>(alpha), half};
}

nb::object add(Graph& graph, nb::handle vectors, nb::handle rows, std::int64_t threads) {
    check_threads(threads);
    const Array from = floats(vectors, "vectors");
    const std::int64_t n = length(from, 0);
    if (graph.world().used + n > (std::int64_t{1} << 31) - 2) refuse("vectors: a graph holds at most 2147483646.");
    const std::unique_ptr<float[]> made =
        prepared(from, graph.world().shape.dim, graph.world().shape.metric, "vectors", threads);
    const std::int64_t values = graph.world().shape.half ? n * graph.world().shape.dim : 0;
    for (std::int64_t i = 0; i < values; ++i)
        if (std::fabs(made[static_cast<std::size_t>(i)]) > largest_half)
            refuse("vectors: row " + std::to_string(i / graph.world().shape.dim) +
                   " has a value above 65504, which float16 does not hold; use precision=\"float32\".");
    std::unique_ptr<std::int64_t[]> numbers(new std::int64_t[static_cast<std::size_t>(n)]);
    const bool replacing = !rows.is_none();
    if (replacing) {
        const Array given = array<std::int64_t, Array>(rows, "rows", "int64", 1);
        if (length(given, 0) != n) refuse("rows: there must be one for each vector.");
        std::copy_n(static_cast<const std::int64_t*>(given.data()), n, numbers.get());
    }
    {
        const nb::gil_scoped_release released;
        graph.add(made.get(), n, numbers.get(), replacing, threads);
    }
    return numpy(std::move(numbers), n, 1);
}

std::int64_t remove(Graph& graph, nb::handle rows, std::int64_t threads) {
    check_threads(threads);
    const Array given = array<std::int64_t, Array>(rows, "rows", "int64", 1);
    const nb::gil_scoped_release released;
    return graph.remove(static_cast<const std::int64_t*>(given.data()), length(given, 0), threads);
}

void check_breadth(std::int64_t k, std::int64_t ef) {
    constexpr std::int64_t most = 1 << 24;
    if (k < 1 || k > most) refuse("k: must be from 1 to " + std::to_string(most) + ", got " + std::to_string(k) + ".");
    if (ef < 1 || ef > most) refuse("ef: must be from 1 to " + std::to_string(most) + ", got " + std::to_string(ef) + ".");
}

// A narrow search of one query takes less than to get the GIL back. It must not wait for the gate with it.
void run(Graph& graph, const Wanted& wanted, std::int64_t threads, Found& found) {
    constexpr std::int64_t narrow = 256;
    const bool quick = wanted.query_count == 1 && wanted.rows == nullptr && wanted.mask == nullptr &&
                       wanted.plan == Plan::choose && std::max(wanted.ef, wanted.rerank) <= narrow;
    if (quick && graph.try_search(wanted, threads, found)) return;
    const nb::gil_scoped_release released;
    graph.search(wanted, threads, found);
}

nb::tuple search(Graph& graph, nb::handle queries, std::int64_t k, std::int64_t ef, std::int64_t rerank, nb::handle rows,
                 nb::handle mask, std::int64_t threads, const std::string& plan) {
    check_breadth(k, ef);
    check_threads(threads);
    const Array from = floats(queries, "queries");
    const std::unique_ptr<float[]> made =
        prepared(from, graph.world().shape.dim, graph.world().shape.metric, "queries", threads);
    Wanted wanted{made.get(), length(from, 0), k, ef, std::max(rerank, k), nullptr, 0, nullptr, 0, plan_named(plan)};
    Array allowed, marked;
    if (!rows.is_none()) {
        allowed = array<std::int64_t, Array>(rows, "rows", "int64", 1);
        wanted.rows = static_cast<const std::int64_t*>(allowed.data());
        wanted.row_count = length(allowed, 0);
        static const std::int64_t nothing = 0;
        if (wanted.rows == nullptr) wanted.rows = &nothing;
        check_rows(wanted.rows, wanted.row_count, graph.rows_ever);
    }
    if (!mask.is_none()) {
        marked = array<bool, Array>(mask, "mask", "bool", 1);
        wanted.mask = static_cast<const std::uint8_t*>(marked.data());
        wanted.mask_size = length(marked, 0);
        static const std::uint8_t unmarked = 0;
        if (wanted.mask == nullptr) wanted.mask = &unmarked;
    }
    std::unique_ptr<std::int64_t[]> out_rows(new std::int64_t[static_cast<std::size_t>(wanted.query_count * k)]);
    std::unique_ptr<float[]> out_scores(new float[static_cast<std::size_t>(wanted.query_count * k)]);
    Found found{out_rows.get(), out_scores.get()};
    run(graph, wanted, threads, found);
    return nb::make_tuple(numpy(std::move(out_rows), wanted.query_count, k), numpy(std::move(out_scores), wanted.query_count, k),
                          found.evaluations, found.scanned);
}

// Exact scores of what a graph has not absorbed yet: of `rows` of `vectors`, which are as they are compared. They count as
// `numbers`.
void compare_apart(const Graph& graph, const float* query, nb::handle part, std::vector<Hit>& hits) {
    nb::tuple given;
    if (!nb::try_cast(part, given) || given.size() != 3) refuse("apart: must hold triples of vectors, numbers and rows.");
    const Array vectors = floats(given[0], "apart"), numbers = array<std::int64_t, Array>(given[1], "apart", "int64", 1),
                rows = array<std::int64_t, Array>(given[2], "apart", "int64", 1);
    const std::int64_t dim = graph.world().shape.dim, n = length(vectors, 0), count = length(rows, 0);
    if (length(vectors, 1) != dim || length(numbers, 0) > n)
        refuse("apart: there must be a vector of the graph's width for each number.");
    check_rows(static_cast<const std::int64_t*>(rows.data()), count, length(numbers, 0));
    std::vector<Slot> slots(static_cast<std::size_t>(count));
    std::vector<float> scores(static_cast<std::size_t>(count) + 8);
    std::copy_n(static_cast<const std::int64_t*>(rows.data()), count, slots.begin());
    chosen().rescore(exactly(static_cast<const float*>(vectors.data()), dim), dim, graph.world().shape.metric, query,
                     slots.data(), count, scores.data());
    for (std::size_t i = 0; i < slots.size(); ++i)
        hits.push_back({scores[i], static_cast<const std::int64_t*>(numbers.data())[slots[i]]});
}

// The k best, and `spare` more, for one query among the rows below `end` and what lies apart: as lists, since they are few.
nb::tuple nearest(Graph& graph, nb::handle query, std::int64_t k, std::int64_t spare, std::int64_t ef, std::int64_t rerank,
                  std::int64_t end, const nb::tuple& apart) {
    check_breadth(k, ef);
    if (spare < 0 || spare > k + 64) refuse("spare: must be from 0 to k + 64, got " + std::to_string(spare) + ".");
    k += spare;
    const Array from = array<float, Array>(query, "query", "float32", 1);
    const std::int64_t dim = graph.world().shape.dim;
    if (length(from, 0) != dim)
        refuse("query: must have " + std::to_string(dim) + " numbers, got " + std::to_string(length(from, 0)) + ".");
    std::vector<float> made(static_cast<std::size_t>(dim));
    check_prepared(prepare(static_cast<const float*>(from.data()), 1, dim, graph.world().shape.metric, made.data(), 1), "query");
    std::vector<std::int64_t> rows(static_cast<std::size_t>(k));
    std::vector<float> scores(static_cast<std::size_t>(k));
    Found found{rows.data(), scores.data()};
    run(graph, {made.data(), 1, k, ef, std::max(rerank, k), nullptr, 0, nullptr, 0, Plan::choose, spare}, 1, found);
    std::vector<Hit> hits;
    // What the graph has further is no better than the last that it gave, unless it gave all it has.
    const double floor = rows.back() >= 0 ? static_cast<double>(scores.back()) : -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < rows.size() && rows[i] >= 0; ++i)
        if (rows[i] < end) hits.push_back({scores[i], rows[i]});
    const std::size_t indexed = hits.size();
    for (const nb::handle part : apart) compare_apart(graph, made.data(), part, hits);
    const std::size_t kept = std::min(hits.size(), static_cast<std::size_t>(k));
    if (hits.size() > indexed)
        std::partial_sort(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(kept), hits.end(), [](const Hit& a, const Hit& b) {
            return a.score > b.score || (a.score == b.score && a.row < b.row);
        });
    nb::list best, theirs;
    for (std::size_t i = 0; i < kept; ++i) {
        best.append(hits[i].row);
        theirs.append(static_cast<double>(hits[i].score));
    }
    return nb::make_tuple(best, theirs, found.evaluations + static_cast<std::int64_t>(hits.size() - indexed), found.scanned, floor);
}

nb::dict parts(Graph& graph, std::int64_t threads) {
    Parts made;
    {
        const nb::gil_scoped_release released;
        const std::lock_guard writing(graph.writing());  // nothing is removed between the two
        graph.settle(threads);
        made = take_apart(graph);
    }
    nb::dict out;
    out["records"] = shared(made.records, made.records.size());
    out["facts"] = shared(made.facts, made.facts.size());
    out["vectors"] = shared(made.vectors, made.vectors.size());
    out["centre"] = shared(made.centre, made.centre.size());
    out["levels"] = shared(made.levels, made.levels.size());
    out["upper"] = shared(made.upper, made.upper.size());
    out["parents"] = shared(made.parents, made.parents.size());
    out["rows"] = shared(made.rows, made.rows.size());
    out["entry"] = made.entry;
    out["root"] = made.root;
    out["top"] = made.top;
    out["rows_ever"] = made.rows_ever;
    out["centred_on"] = made.centred_on;
    out["spread"] = made.spread;
    out["spread_on"] = made.spread_on;
    out["count"] = made.count;
    return out;
}

void restore(Graph& graph, const nb::dict& from) {
    if (graph.world().used != 0) refuse("parts: the graph has vectors already.");
    const World& world = graph.world();
    Parts given;
    given.count = nb::cast<std::int64_t>(from["count"]);
    const std::int64_t n = given.count;
    if (n < 0 || n >= (std::int64_t{1} << 31) - 1) refuse("parts: a count of " + std::to_string(n) + " is impossible.");
    given.records = borrowed<std::uint8_t>(from, "records", n * world.links.table.stride);
    given.facts = borrowed<float>(from, "facts", 2 * n);
    given.vectors = borrowed<std::uint8_t>(from, "vectors", n * world.vector_bytes());
    given.centre = borrowed<float>(from, "centre", world.centre.size());
    given.levels = borrowed<std::uint8_t>(from, "levels", n);
    given.lists = static_cast<std::int64_t>(nb::len(nb::object(from["upper"]))) / world.links.upper_width;
    given.upper = borrowed<Slot>(from, "upper", given.lists * world.links.upper_width);
    given.parents = borrowed<Slot>(from, "parents", n);
    const auto rows = static_cast<std::int64_t>(nb::len(nb::object(from["rows"])));
    given.rows = borrowed<std::int64_t>(from, "rows", rows);
    given.entry = nb::cast<Slot>(from["entry"]);
    given.root = nb::cast<Slot>(from["root"]);
    given.top = nb::cast<int>(from["top"]);
    given.rows_ever = nb::cast<std::int64_t>(from["rows_ever"]);
    given.centred_on = nb::cast<std::int64_t>(from["centred_on"]);
    given.spread = nb::cast<float>(from["spread"]);
    given.spread_on = nb::cast<std::int64_t>(from["spread_on"]);
    if (const std::string wrong = put_together(graph, given); !wrong.empty()) refuse("parts: " + wrong + ".");
}

// What it takes in memory, in bytes; `search` without the exact vectors, which may lie in a mapped file.
nb::dict sizes(Graph& graph) {
    const auto lock = reading(graph.gate());
    const World& world = graph.world();
    const std::int64_t n = world.used, upper = world.upper_used * world.links.upper_width * 4;
    nb::dict out;
    out["size"] = world.live_count;
    out["slots"] = n;
    out["dead"] = graph.dead_count;
    out["free"] = static_cast<std::int64_t>(graph.free_slots.size());
    out["top"] = world.links.top;
    out["search_bytes"] = n * (world.links.table.stride + 8 + 4 + 1) + n / 8 + upper + graph.row_map().bytes();
    out["total_bytes"] = n * (world.links.table.stride + 4 + 4 + 4 + 1 + 4 + world.vector_bytes()) + n / 4
                         + upper + graph.row_map().bytes();
    std::int64_t links = 0;
    for (Slot slot = 0; slot < n; ++slot)
        if (world.live[slot]) links += world.degree(slot, 0);
    out["links"] = links;
    out["spread"] = world.spread;
    return out;
}

// Whether each row is live.
nb::object live(Graph& graph, nb::handle rows) {
    const Array given = array<std::int64_t, Array>(rows, "rows", "int64", 1);
    const std::int64_t n = length(given, 0);
    std::unique_ptr<bool[]> found(new bool[static_cast<std::size_t>(n)]);
    const auto lock = reading(graph.gate());
    const auto* numbers = static_cast<const std::int64_t*>(given.data());
    for (std::int64_t i = 0; i < n; ++i) found[static_cast<std::size_t>(i)] = graph.row_map().slot_of(numbers[i], graph.world()) != no_slot;
    return numpy(std::move(found), n, 1);
}

nb::object live_rows(Graph& graph) {
    const auto lock = reading(graph.gate());
    const World& world = graph.world();
    std::unique_ptr<std::int64_t[]> found(new std::int64_t[static_cast<std::size_t>(world.live_count)]);
    std::int64_t n = 0;
    for (Slot slot = 0; slot < world.used; ++slot)
        if (world.live[slot]) found[static_cast<std::size_t>(n++)] = graph.row_map().row_of(slot);
    std::sort(found.get(), found.get() + n);
    return numpy(std::move(found), n, 1);
}

// The vectors of live rows as they are compared.
nb::object vectors(Graph& graph, nb::handle rows) {
    const Array given = array<std::int64_t, Array>(rows, "rows", "int64", 1);
    const std::int64_t n = length(given, 0), dim = graph.world().shape.dim;
    std::unique_ptr<float[]> found(new float[static_cast<std::size_t>(n * dim)]);
    const auto lock = reading(graph.gate());
    const World& world = graph.world();
    const auto* numbers = static_cast<const std::int64_t*>(given.data());
    for (std::int64_t i = 0; i < n; ++i) {
        const Slot slot = graph.row_map().slot_of(numbers[i], world);
        if (slot == no_slot) refuse("rows: " + std::to_string(numbers[i]) + " is not in the index.");
        world.copy_vector(slot, found.get() + i * dim);
    }
    return numpy(std::move(found), n, dim);
}

// CPU nanoseconds for each record when records are only read, in the order of these rows.
double gather_ns(Graph& graph, nb::handle rows) {
    const Array given = array<std::int64_t, Array>(rows, "rows", "int64", 1);
    const std::int64_t n = length(given, 0);
    const auto lock = reading(graph.gate());
    const World& world = graph.world();
    std::vector<Slot> slots;
    for (std::int64_t i = 0; i < n; ++i) {
        const Slot slot = graph.row_map().slot_of(static_cast<const std::int64_t*>(given.data())[i], world);
        if (slot != no_slot) slots.push_back(slot);
    }
    if (slots.empty()) return 0;
    const std::clock_t start = std::clock();
    volatile std::uint64_t sum = chosen().gather_records(world.links.table, code_bytes(world.shape.code, world.shape.dim),
                                                         slots.data(), static_cast<std::int64_t>(slots.size()));
    (void)sum;
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC * 1e9 / static_cast<double>(slots.size());
}

// The links of a row on a level, as rows; for looking at a graph.
std::vector<std::int64_t> neighbours(Graph& graph, std::int64_t row, int level) {
    const auto lock = reading(graph.gate());
    const World& world = graph.world();
    const Slot slot = graph.row_map().slot_of(row, world);
    std::vector<std::int64_t> found;
    if (slot == no_slot || level < 0 || level > world.levels[slot]) return found;
    for (std::int64_t i = 0, n = world.degree(slot, level); i < n; ++i) {
        const Slot other = world.list(slot, level)[i];
        if (world.live[other]) found.push_back(graph.row_map().row_of(other));
    }
    return found;
}

}  // namespace

void bind_graph(nb::module_& module) {
    nb::class_<Graph>(module, "Graph", "A small world of vectors with links: what HNSW and NSW are made of.")
        .def("__init__", [](Graph* self, std::int64_t dim, const std::string& metric, const std::string& code, std::int64_t m,
                            std::int64_t ef_construction, std::uint64_t seed, bool layered, double alpha, bool half) {
            new (self) Graph(shape_of(dim, metric, code, m, ef_construction, seed, layered, alpha, half), &chosen);
        }, nb::arg("dim"), nb::arg("metric"), nb::arg("code"), nb::arg("m"), nb::arg("ef_construction"), nb::arg("seed"),
           nb::arg("layered"), nb::arg("alpha"), nb::arg("half") = false)
        .def("add", &add, nb::arg("vectors").none(), nb::arg("rows").none() = nb::none(), nb::arg("threads") = 1)
        .def("remove", &remove, nb::arg("rows").none(), nb::arg("threads") = 1)
        .def("search", &search, nb::arg("queries").none(), nb::arg("k"), nb::arg("ef"), nb::arg("rerank"),
             nb::arg("rows").none() = nb::none(), nb::arg("mask").none() = nb::none(), nb::arg("threads") = 1,
             nb::arg("plan") = "")
        .def("nearest", &nearest, nb::arg("query").none(), nb::arg("k"), nb::arg("spare"), nb::arg("ef"), nb::arg("rerank"), nb::arg("end"),
             nb::arg("apart"))
        .def("repair", [](Graph& graph, std::int64_t threads) {
            const nb::gil_scoped_release released;
            return graph.repair(threads);
        }, nb::arg("threads") = 1)
        .def("reachable", [](Graph& graph) {
            const nb::gil_scoped_release released;
            const std::shared_lock lock(graph.gate());
            return Healer::reachable(graph.world());
        })
        .def("parts", &parts, nb::arg("threads") = 1)
        .def("restore", &restore, nb::arg("parts"))
        .def("sizes", &sizes)
        .def("gather_ns", &gather_ns, nb::arg("rows").none())
        .def("live", &live, nb::arg("rows").none())
        .def("live_rows", &live_rows)
        .def("vectors", &vectors, nb::arg("rows").none())
        .def("neighbours", &neighbours, nb::arg("row"), nb::arg("level") = 0)
        .def("__len__", [](Graph& graph) { return graph.world().live_count; })
        .def_prop_ro("code", [](Graph& graph) {
            const Code code = graph.world().shape.code;
            return std::string(code == Code::bytes ? "int8" : code == Code::nibbles ? "int4" : "float32");
        })
        .def_prop_ro("rows_ever", [](Graph& graph) { return graph.rows_ever; });
}

}  // namespace madang::python
