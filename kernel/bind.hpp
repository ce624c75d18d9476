// What the Python bindings share: arguments as arrays, and results as arrays. Whatever is wrong is a ValueError that
// names the argument.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <limits>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "dispatch.hpp"
#include "memory.hpp"
#include "prepare.hpp"

namespace madang::python {

namespace nb = nanobind;

using madang::Metric;
using Array = nb::ndarray<nb::ro>;

[[noreturn]] inline void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

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

inline Array floats(nb::handle object, const char* name) {
    Array found = array<float, Array>(object, name, "float32", 2);
    if (found.shape(1) < 1) refuse(std::string(name) + ": must have at least 1 column.");
    return found;
}

inline std::int64_t length(const Array& found, std::size_t axis) { return static_cast<std::int64_t>(found.shape(axis)); }

inline Metric metric_named(const std::string& name) {
    if (name == "cosine") return Metric::cosine;
    if (name == "dot") return Metric::dot;
    if (name == "euclidean") return Metric::euclidean;
    refuse("metric: '" + name + "' is unknown; choose cosine, dot or euclidean.");
}

inline void check_threads(std::int64_t threads) {
    if (threads < 0) refuse("threads: must be 0 (all cores) or more, got " + std::to_string(threads) + ".");
}

inline void check_prepared(const madang::Prepared& result, const char* name) {
    const std::string where = std::string(name) + ": row " + std::to_string(result.row);
    if (result.refusal == madang::Refusal::not_finite)
        refuse(where + " contains NaN or infinity; remove or replace it.");
    if (result.refusal == madang::Refusal::too_large)
        refuse(where + " is longer than 9.1e18, so that scores could overflow float32; scale the vectors down.");
}

// Whether the rows are strictly ascending and within [0, count).
inline void check_rows(const std::int64_t* rows, std::int64_t size, std::int64_t count) {
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

inline const Kernel& chosen() { return *chosen_kernel(); }

inline Code code_named(const std::string& name) {
    if (name == "float32") return Code::floats;
    if (name == "int8") return Code::bytes;
    if (name == "int4") return Code::nibbles;
    refuse("code: '" + name + "' is unknown; choose float32, int8 or int4.");
}

// Lets go of the GIL for work on so many numbers, unless that is over in microseconds: to get it back among other threads
// takes tens of them.
class Released {
public:
    explicit Released(std::int64_t numbers) {
        if (numbers > few) released_.emplace();
    }

private:
    static constexpr std::int64_t few = 1 << 17;
    std::optional<nb::gil_scoped_release> released_;
};

// Vectors or queries as an index compares them.
inline std::unique_ptr<float[]> prepared(const Array& from, std::int64_t dim, Metric metric, const char* name,
                                  std::int64_t threads) {
    const std::int64_t n = length(from, 0);
    if (length(from, 1) != dim)
        refuse(std::string(name) + ": must have " + std::to_string(dim) + " columns, got "
               + std::to_string(length(from, 1)) + ".");
    std::unique_ptr<float[]> made(new float[static_cast<std::size_t>(n * dim)]);
    Prepared result{};
    {
        const Released released(n * dim);
        result = prepare(static_cast<const float*>(from.data()), n, dim, metric, made.get(), threads);
    }
    check_prepared(result, name);
    return made;
}

// The first `size` values of a buffer as an array that owns it.
template <class T>
nb::object shared(const Buffer<T>& buffer, std::int64_t size) {
    auto* kept = new Buffer<T>(buffer);
    const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<Buffer<T>*>(p); });
    const std::size_t shape[1] = {static_cast<std::size_t>(size)};
    return nb::ndarray<nb::numpy, T>(kept->get(), 1, shape, owner).cast();
}

// The buffer of an array of `size` values, which stays alive with it; changes go to the array.
template <class T>
Buffer<T> borrowed(const nb::dict& from, const char* name, std::int64_t size) {
    using Kind = nb::ndarray<>;
    if (!from.contains(name)) refuse(std::string(name) + ": is missing.");
    const Kind found = array<T, Kind>(from[name], name, "that of parts()", 1);
    if (static_cast<std::int64_t>(found.size()) != size)
        refuse(std::string(name) + ": must have " + std::to_string(size) + " values, got "
               + std::to_string(found.size()) + ".");
    if (size == 0) return {};
    auto kept = std::make_shared<Kind>(found);
    return Buffer<T>(static_cast<T*>(found.data()), size, kept);
}

// A lock waited for without the GIL: whoever holds the gate may need the GIL to let go of an array.
inline std::shared_lock<std::shared_mutex> reading(std::shared_mutex& gate) {
    const nb::gil_scoped_release released;
    return std::shared_lock<std::shared_mutex>(gate);
}

// The part of the module that deals with graphs: bind_graph.cpp.
void bind_graph(nb::module_& module);

// And with cells: bind_cells.cpp.
void bind_cells(nb::module_& module);

// And with exact search in two passes: bind_sieve.cpp.
void bind_sieve(nb::module_& module);

}  // namespace madang::python
