// Exact search in two passes, shared out to threads: what the codes leave over is scored exactly. Also: what the codes
// are.
#pragma once

#include <vector>

#include "encode.hpp"
#include "memory.hpp"
#include "search.hpp"

namespace madang {

constexpr std::int64_t most_sieved = 1 << 16;  // dimensions: beyond, sums of products would not fit 32 bits

inline std::int64_t sieve_stride(std::int64_t dim) { return (dim + code_line - 1) / code_line * code_line; }

// Write the codes (n, sieve_stride) and facts (n, 4) of prepared vectors: see Sieve.
inline void encode_sieve(const float* vectors, std::int64_t n, std::int64_t dim, Metric metric, std::uint8_t* codes,
                         float* facts, std::int64_t threads) {
    constexpr std::int64_t chunk = 64;
    constexpr double spare = 1.00001;  // what is rounded to float32 must not come out smaller
    const int used = thread_count(threads, static_cast<double>(n * dim) * 4);
    for_each((n + chunk - 1) / chunk, used, [&](int, std::int64_t item) {
        if (dim < 1) return;
        for (std::int64_t i = item * chunk; i < std::min(n, (item + 1) * chunk); ++i) {
            const float* vector = vectors + i * dim;
            std::uint8_t* code = codes + i * sieve_stride(dim);
            std::memset(code, 0x80, static_cast<std::size_t>(sieve_stride(dim)));
            const float scale = encode(Code::bytes, vector, dim, code).scale;
            double error = 0, norm = 0, own = 0;
            for (std::int64_t d = 0; d < dim; ++d) {
                const double exact = vector[d], value = static_cast<double>(scale) * (code[d] - 128);
                error += (exact - value) * (exact - value);
                norm += value * value;
                own += exact * exact;
            }
            const double length = metric == Metric::cosine ? 1.0 : metric == Metric::dot ? std::sqrt(own) : norm;
            float* fact = facts + 4 * i;
            fact[0] = scale;
            fact[1] = static_cast<float>(std::sqrt(error) * spare);
            fact[2] = static_cast<float>(metric == Metric::euclidean ? length : length * spare);
            fact[3] = 0;
        }
    });
}

class Sifting {
public:
    Sifting(const Kernel& kernel, const Problem& problem, const std::uint8_t* codes, const float* facts,
            std::int64_t threads, detail::Output output)
        : kernel_(kernel), problem_(problem), codes_(codes), facts_(facts), output_(output),
          candidates_(problem.rows != nullptr ? problem.row_count : problem.count),
          threads_(thread_count(threads, static_cast<double>(candidates_ * problem.query_count)
                                             * static_cast<double>(problem.dim) / 4)) {}

    bool run() {
        const std::int64_t n = problem_.query_count;
        if (n >= threads_) {
            for_each(n, threads_, [&](int, std::int64_t query) { answer(query, 1); });
        } else {
            for (std::int64_t query = 0; query < n; ++query) answer(query, threads_);
        }
        return finite_;
    }

private:
    static constexpr double spare = 1.0001;

    // What one thread found.
    struct Part {
        std::unique_ptr<Hit[]> hits;
        Heap heap{};
        std::vector<Hit> suspects;
    };

    Sieve sieve_for(const float* query, Buffer<char>& room) const {
        const std::int64_t dim = problem_.dim;
        room.resize(needle_bytes(Code::bytes, dim));
        Sieve made{codes_, sieve_stride(dim), facts_, needle_for(Code::bytes, query, dim, 0, room.get()), 0, 0, 0};
        const auto* values = static_cast<const std::int8_t*>(made.needle.values);
        double error = 0, norm = 0, own = 0;
        for (std::int64_t d = 0; d < dim; ++d) {
            const double exact = query[d], value = static_cast<double>(made.needle.scale) * values[d];
            error += (exact - value) * (exact - value);
            norm += value * value;
            own += exact * exact;
        }
        made.query_error = static_cast<float>(std::sqrt(error) * spare);
        const bool euclidean = problem_.metric == Metric::euclidean;
        made.query_length = static_cast<float>(euclidean ? std::sqrt(norm) : std::sqrt(std::max(own, norm)) * spare);
        made.rounding = static_cast<float>(dim + 32) * 1.2e-7F;  // twice (dim + 32) times 2^-24
        return made;
    }

    void answer(std::int64_t query, int threads) {
        Buffer<char> room;
        const Sieve sieve = sieve_for(problem_.queries + query * problem_.dim, room);
        Problem alone = problem_;
        alone.queries = problem_.queries + query * problem_.dim;
        alone.query_count = 1;
        std::vector<Part> parts(static_cast<std::size_t>(threads));
        const std::int64_t kept = std::max<std::int64_t>(1, std::min(problem_.k, candidates_));
        for (Part& part : parts) {
            part.hits.reset(new Hit[static_cast<std::size_t>(kept)]);
            part.heap = {part.hits.get(), kept, 0};
        }
        const std::int64_t chunk = std::min<std::int64_t>(4096, candidates_ / threads + 1);
        for_each((candidates_ + chunk - 1) / chunk, threads, [&](int thread, std::int64_t item) {
            const Range range{item * chunk, std::min(candidates_, (item + 1) * chunk)};
            sift(alone, sieve, range, parts[static_cast<std::size_t>(thread)]);
        });
        for (int i = 1; i < threads; ++i) kernel_.merge(parts[0].heap, parts[static_cast<std::size_t>(i)].heap);
        score(alone, query, parts);
    }

    void sift(const Problem& alone, const Sieve& sieve, Range range, Part& part) const {
        const std::unique_ptr<Hit[]> found(new Hit[static_cast<std::size_t>(range.end - range.begin)]);
        const std::int64_t n = kernel_.sift(alone, sieve, range, part.heap, found.get());
        const float bar = bar_of(part.heap);
        for (std::int64_t i = 0; i < n; ++i)
            if (!(found[i].score < bar)) part.suspects.push_back(found[i]);
    }

    static float bar_of(const Heap& heap) {
        return heap.size == heap.capacity ? heap.hits[0].score : -std::numeric_limits<float>::infinity();
    }

    void score(Problem& alone, std::int64_t query, const std::vector<Part>& parts) {
        const Heap& lower = parts[0].heap;
        const float bar = bar_of(lower);
        std::vector<std::int64_t> rows;
        for (const Part& part : parts)
            for (const Hit& hit : part.suspects)
                if (!(hit.score < bar)) rows.push_back(hit.row);
        if (parts.size() > 1) std::sort(rows.begin(), rows.end());
        alone.rows = rows.data();
        alone.row_count = static_cast<std::int64_t>(rows.size());
        alone.mask = nullptr;
        Heap heap{lower.hits, lower.capacity, 0};
        if (!kernel_.scan(alone, {0, 1}, {0, alone.row_count}, &heap)) finite_ = false;
        kernel_.sort(heap);
        output_.write(query, heap);
    }

    const Kernel& kernel_;
    const Problem& problem_;
    const std::uint8_t* codes_;
    const float* facts_;
    detail::Output output_;
    std::int64_t candidates_;
    int threads_;
    std::atomic<bool> finite_{true};
};

// As `search`, with the same results, where the vectors' codes and facts are given (encode_sieve).
inline bool sieved_search(const Kernel& kernel, const Problem& problem, const std::uint8_t* codes, const float* facts,
                          std::int64_t threads, std::int64_t* rows, float* scores) {
    return Sifting(kernel, problem, codes, facts, threads, {rows, scores, problem.k}).run();
}

}  // namespace madang
