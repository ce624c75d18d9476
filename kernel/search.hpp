// Shares one exact search out to threads: over the queries when there are many, over the rows when there are few.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>

#include "parallel.hpp"
#include "types.hpp"

namespace madang {

namespace detail {

constexpr std::int64_t max_queries = 256;   // searched together: they share each block of rows in the cache
constexpr std::int64_t max_hits = 1 << 22;  // kept per thread: 64 MiB

// Heaps for `queries` queries on each of `threads` threads.
class Heaps {
public:
    Heaps(std::int64_t threads, std::int64_t queries, std::int64_t capacity)
        : queries_(queries), capacity_(capacity),
          hits_(new Hit[static_cast<std::size_t>(threads * queries * capacity)]),
          heaps_(new Heap[static_cast<std::size_t>(threads * queries)]) {}

    // A thread's heaps as they are, or emptied.
    Heap* of(std::int64_t thread) { return heaps_.get() + thread * queries_; }
    Heap* emptied(std::int64_t thread) {
        for (std::int64_t i = thread * queries_; i < (thread + 1) * queries_; ++i)
            heaps_[static_cast<std::size_t>(i)] = {hits_.get() + i * capacity_, capacity_, 0};
        return of(thread);
    }

private:
    std::int64_t queries_, capacity_;
    std::unique_ptr<Hit[]> hits_;
    std::unique_ptr<Heap[]> heaps_;
};

// Where the results go: (query_count, k) each, padded with -1 and -infinity.
struct Output {
    std::int64_t* rows;
    float* scores;
    std::int64_t k;

    void write(std::int64_t query, const Heap& sorted) const {
        for (std::int64_t i = 0; i < k; ++i) {
            const bool found = i < sorted.size;
            rows[query * k + i] = found ? sorted.hits[i].row : -1;
            scores[query * k + i] = found ? sorted.hits[i].score : -std::numeric_limits<float>::infinity();
        }
    }
};

// One search on its way: how it is cut up, and its heaps.
class Search {
public:
    Search(const Kernel& kernel, const Problem& problem, std::int64_t threads, Output output)
        : kernel_(kernel), problem_(problem), output_(output),
          candidates_(problem.rows != nullptr ? problem.row_count : problem.count),
          threads_(thread_count(threads, static_cast<double>(candidates_) * static_cast<double>(problem.dim)
                                             * static_cast<double>(problem.query_count))),
          by_queries_(problem.query_count >= 16 * static_cast<std::int64_t>(threads_)),
          group_(group_size()), heaps_(threads_, group_, kept()) {}

    bool run() {
        const std::int64_t groups = (problem_.query_count + group_ - 1) / group_;
        if (by_queries_) {
            for_each(groups, threads_, [&](int thread, std::int64_t item) {
                Heap* heaps = heaps_.emptied(thread);
                scan(queries_of(item), {0, candidates_}, heaps);
                finish(queries_of(item), heaps);
            });
        } else {
            for (std::int64_t item = 0; item < groups; ++item) share_rows(queries_of(item));
        }
        return finite_;
    }

private:
    std::int64_t kept() const { return std::max<std::int64_t>(1, std::min(problem_.k, candidates_)); }

    std::int64_t group_size() const {
        const std::int64_t all = problem_.query_count;
        const std::int64_t share = by_queries_ ? (all + threads_ - 1) / threads_ : all;
        return std::clamp<std::int64_t>(share, 1, std::clamp<std::int64_t>(max_hits / kept(), 1, max_queries));
    }

    Range queries_of(std::int64_t item) const {
        return {item * group_, std::min(problem_.query_count, (item + 1) * group_)};
    }

    void share_rows(Range queries) {
        // A few chunks per thread even out cores that are busy elsewhere.
        const std::int64_t chunk = std::max<std::int64_t>(256, candidates_ / (4 * threads_) + 1);
        for (int thread = 0; thread < threads_; ++thread) heaps_.emptied(thread);
        for_each((candidates_ + chunk - 1) / chunk, threads_, [&](int thread, std::int64_t item) {
            scan(queries, {item * chunk, std::min(candidates_, (item + 1) * chunk)}, heaps_.of(thread));
        });
        for (int thread = 1; thread < threads_; ++thread)
            for (std::int64_t i = 0; i < queries.end - queries.begin; ++i)
                kernel_.merge(heaps_.of(0)[i], heaps_.of(thread)[i]);
        finish(queries, heaps_.of(0));
    }

    void scan(Range queries, Range candidates, Heap* heaps) {
        if (!kernel_.scan(problem_, queries, candidates, heaps)) finite_ = false;
    }

    void finish(Range queries, Heap* heaps) {
        for (std::int64_t q = queries.begin; q < queries.end; ++q) {
            kernel_.sort(heaps[q - queries.begin]);
            output_.write(q, heaps[q - queries.begin]);
        }
    }

    const Kernel& kernel_;
    const Problem& problem_;
    Output output_;
    std::int64_t candidates_;
    int threads_;
    bool by_queries_;
    std::int64_t group_;
    Heaps heaps_;
    std::atomic<bool> finite_{true};
};

}  // namespace detail

// Write the k best candidates of every query, (query_count, k) each, padded with -1 and -infinity; returns false
// when a score was NaN (such candidates are left out). The result does not depend on `threads` (0: all cores).
// Throws std::bad_alloc.
inline bool search(const Kernel& kernel, const Problem& problem, std::int64_t threads, std::int64_t* rows,
                   float* scores) {
    return detail::Search(kernel, problem, threads, {rows, scores, problem.k}).run();
}

}  // namespace madang
