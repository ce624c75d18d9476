// The parts of a small world in memory: vectors, codes, links by level. Slots 0 to `used` - 1 hold vectors; some of them
// may be dead (removed, their links still followed) or free (to be used again). Nothing here locks or searches.
//
// Distances between stored vectors, while building, are Euclidean ones of the codes: bias is -|x|^2 / 2. For dot vectors
// are near where their inner product is large (Morozov & Babenko 2018): long vectors are linked to by all others, which is
// where answers are.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "encode.hpp"
#include "half.hpp"
#include "memory.hpp"
#include "parallel.hpp"
#include "prepare.hpp"

namespace madang {

constexpr Slot no_slot = 0xFFFFFFFFU;
constexpr int max_level = 31;

struct Shape {
    std::int64_t dim;
    Metric metric;
    Code code;
    std::int64_t m;                // links chosen per level; the lowest level holds twice as many
    std::int64_t ef_construction;  // candidates considered for them
    std::uint64_t seed;            // of the levels
    bool layered;                  // false: one level only
    float alpha;                   // of select_links; 0: the nearest
    bool half;                     // exact scores are those of vectors rounded to half precision
};

// One bit for each slot.
class Bits {
public:
    void resize(std::int64_t size) { words_.resize(static_cast<std::size_t>((size + 63) / 64), 0); }
    bool operator[](Slot slot) const { return (words_[slot >> 6] >> (slot & 63) & 1) != 0; }
    void set(Slot slot) { words_[slot >> 6] |= 1ULL << (slot & 63); }
    void clear(Slot slot) { words_[slot >> 6] &= ~(1ULL << (slot & 63)); }
    const std::vector<std::uint64_t>& words() const { return words_; }
    std::vector<std::uint64_t>& words() { return words_; }

private:
    std::vector<std::uint64_t> words_;
};

struct World {
    Shape shape;
    Links links{};
    Buffer<std::uint8_t> records;
    Buffer<float> facts;               // (capacity, 2): scale and bias
    Buffer<std::uint8_t> vectors;      // (capacity, dim) floats or halves, as prepared; none where the records are that
    Buffer<float> centre;              // (dim,) subtracted before encoding; Euclidean only
    Buffer<std::uint8_t> levels;
    Buffer<Slot> upper, upper_at;      // lists above the lowest level; a slot's first one
    Buffer<Slot> parents;              // a slot that links to this one and stays: a tree from the root
    std::int64_t capacity = 0;
    std::int64_t used = 0;
    std::int64_t upper_used = 0;       // lists
    std::int64_t centred_on = 0;       // vectors there were when the centre was found
    float spread = 0;                  // squared distances grow as rank^spread; 0: not known
    std::int64_t spread_on = 0;        // vectors there were when that was measured
    Bits live;
    std::int64_t live_count = 0;

    explicit World(const Shape& of) : shape(of) {
        const std::int64_t code = code_bytes(shape.code, shape.dim);
        const std::int64_t bytes = code + width(0) * static_cast<std::int64_t>(sizeof(Slot));
        // Whole cache lines, unless that wastes more than 4 %: then whole registers.
        const std::int64_t aligned = (bytes + code_line - 1) / code_line * code_line;
        links.table.stride = aligned * 100 <= bytes * 104 ? aligned : (bytes + 15) / 16 * 16;
        links.table.links_at = code;
        links.table.code = shape.code;
        links.table.dim = shape.code == Code::floats ? code / static_cast<std::int64_t>(sizeof(float)) : shape.dim;
        links.table.inner = shape.metric == Metric::dot;
        links.width = width(0);
        links.upper_width = width(1);
        links.entry = links.root = no_slot;
        links.top = -1;
        if (shape.metric == Metric::euclidean) {
            centre.resize(shape.dim);
            std::fill_n(centre.get(), shape.dim, 0.0F);
        }
    }

    // Whether two slots have the same code, so that no search tells them apart.
    bool same_code(Slot a, Slot b) const {
        const std::int64_t stride = links.table.stride;
        return std::memcmp(facts.get() + 2 * std::int64_t{a}, facts.get() + 2 * std::int64_t{b}, 2 * sizeof(float)) == 0
               && std::memcmp(records.get() + a * stride, records.get() + b * stride, static_cast<std::size_t>(links.table.links_at)) == 0;
    }

    float& scale(Slot slot) const { return facts[2 * std::int64_t{slot}]; }
    float& bias(Slot slot) const { return facts[2 * std::int64_t{slot} + 1]; }

    std::int64_t width(int level) const { return level == 0 ? 2 * shape.m : shape.m; }
    // Whether exact vectors are kept beside the records: always, unless the records are just these.
    bool kept_apart() const { return shape.code != Code::floats || shape.metric == Metric::euclidean; }

    Slot* list(Slot slot, int level) const {
        if (level == 0)
            return reinterpret_cast<Slot*>(records.get() + slot * links.table.stride + links.table.links_at);
        return upper.get() + (static_cast<std::int64_t>(upper_at[slot]) + level - 1) * links.upper_width;
    }

    // How many places of a list are in use: the others hold the slot itself.
    std::int64_t degree(Slot slot, int level) const {
        const Slot* own = list(slot, level);
        std::int64_t n = 0;
        while (n < width(level) && own[n] != slot) ++n;
        return n;
    }

    void write_list(Slot slot, int level, const Slot* links_to, std::int64_t count) const {
        Slot* own = list(slot, level);
        std::copy_n(links_to, count, own);
        std::fill(own + count, own + width(level), slot);
    }

    std::int64_t vector_bytes() const {
        return kept_apart() ? shape.dim * static_cast<std::int64_t>(shape.half ? sizeof(Half) : sizeof(float)) : 0;
    }

    // What exact scores are computed from.
    Exact exact() const {
        if (kept_apart()) return {vectors.get(), vector_bytes(), shape.half};
        return {records.get(), links.table.stride, false};
    }

    // A slot's vector as it is compared.
    void copy_vector(Slot slot, float* to) const {
        const Exact from = exact();
        const std::uint8_t* row = from.rows + slot * from.stride;
        if (!from.half) std::memcpy(to, row, static_cast<std::size_t>(shape.dim) * sizeof(float));
        else
            for (std::int64_t d = 0; d < shape.dim; ++d) to[d] = float_of(reinterpret_cast<const Half*>(row)[d]);
    }

    void reserve(std::int64_t wanted) {
        if (wanted <= capacity) return;
        records.resize(wanted * links.table.stride);
        facts.resize(2 * wanted);
        vectors.resize(wanted * vector_bytes());
        levels.resize(wanted);
        upper_at.resize(wanted);
        parents.resize(wanted);
        live.resize(wanted);
        capacity = wanted;
        refer();
    }

    // After buffers moved.
    void refer() {
        links.table.records = records.get();
        links.table.facts = facts.get();
        links.upper = upper.get();
        links.upper_at = upper_at.get();
    }

    // Levels are distributed exponentially with mL = 1 / ln m (Malkov & Yashunin, section 4.1), by the row's number.
    int level_of(std::int64_t row) const {
        if (!shape.layered || shape.m < 2) return 0;
        std::uint64_t x = shape.seed * 0xD1342543DE82EF95ULL + static_cast<std::uint64_t>(row) + 0x9E3779B97F4A7C15ULL;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;  // splitmix64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
        x ^= x >> 31;
        const double uniform = (static_cast<double>(x >> 11) + 0.5) / 9007199254740992.0;
        const double level = -std::log(uniform) / std::log(static_cast<double>(shape.m));
        return level < max_level ? static_cast<int>(level) : max_level;
    }

    // Room for the lists above the lowest level, all empty, of a slot that has its level.
    void make_lists(Slot slot) {
        upper_at[slot] = static_cast<Slot>(upper_used);
        upper_used += levels[slot];
        if (upper_used * links.upper_width > upper.size()) {
            upper.resize(std::max<std::int64_t>(upper_used, upper.size() / links.upper_width * 5 / 4) * links.upper_width);
            links.upper = upper.get();
        }
        for (int level = 0; level <= levels[slot]; ++level) write_list(slot, level, nullptr, 0);
    }

    // Encode a slot's vector. `room` has `dim` floats.
    void encode_slot(Slot slot, const float* vector, float* room) const {
        const float* values = vector;
        if (shape.metric == Metric::euclidean) {
            for (std::int64_t d = 0; d < shape.dim; ++d) room[d] = vector[d] - centre[d];
            values = room;
        }
        if (kept_apart()) keep_vector(slot, vector);
        std::uint8_t* const record = records.get() + slot * links.table.stride;
        const std::int64_t end = links.table.links_at + width(0) * static_cast<std::int64_t>(sizeof(Slot));
        std::memset(record + end, 0, static_cast<std::size_t>(links.table.stride - end));  // files must not differ
        const Coded coded = encode(shape.code, values, shape.dim, record);
        scale(slot) = coded.scale;
        bias(slot) = static_cast<float>(-0.5 * coded.squared_norm);
    }

    void keep_vector(Slot slot, const float* vector) const {
        std::uint8_t* row = vectors.get() + slot * vector_bytes();
        if (!shape.half) std::memcpy(row, vector, static_cast<std::size_t>(vector_bytes()));
        else
            for (std::int64_t d = 0; d < shape.dim; ++d) reinterpret_cast<Half*>(row)[d] = half_of(vector[d]);
    }

    // The vector of a slot of another world of this shape, without its links.
    void take_slot(Slot slot, const World& other, Slot theirs) {
        std::memcpy(records.get() + slot * links.table.stride, other.records.get() + theirs * links.table.stride,
                    static_cast<std::size_t>(links.table.stride));
        std::copy_n(other.vectors.get() + theirs * vector_bytes(), vector_bytes(), vectors.get() + slot * vector_bytes());
        scale(slot) = other.scale(theirs);
        bias(slot) = other.bias(theirs);
        levels[slot] = other.levels[theirs];
        parents[slot] = no_slot;
        make_lists(slot);
    }

    // Move the live slots together, so that nothing is free, and give memory back. Returns where each slot went.
    std::vector<Slot> close_up() {
        std::vector<Slot> place(static_cast<std::size_t>(used), no_slot);
        std::int64_t n = 0, lists = 0;
        for (std::int64_t slot = 0; slot < used; ++slot)
            if (live[static_cast<Slot>(slot)]) place[static_cast<std::size_t>(slot)] = static_cast<Slot>(n++);
        Buffer<Slot> packed(std::max<std::int64_t>(upper_used * links.upper_width, 1));
        for (std::int64_t slot = 0; slot < used; ++slot) {
            if (!live[static_cast<Slot>(slot)]) continue;
            const Slot to = place[static_cast<std::size_t>(slot)];
            for (int level = 1; level <= levels[slot]; ++level, ++lists) {
                const Slot* from = list(static_cast<Slot>(slot), level);
                for (std::int64_t j = 0; j < links.upper_width; ++j) packed[lists * links.upper_width + j] = place[from[j]];
            }
            Slot* own = list(static_cast<Slot>(slot), 0);
            for (std::int64_t j = 0; j < links.width; ++j) own[j] = place[own[j]];
            std::memmove(records.get() + to * links.table.stride, records.get() + slot * links.table.stride,
                         static_cast<std::size_t>(links.table.stride));
            if (to != slot)
                std::copy_n(vectors.get() + slot * vector_bytes(), vector_bytes(), vectors.get() + to * vector_bytes());
            scale(to) = scale(static_cast<Slot>(slot));
            bias(to) = bias(static_cast<Slot>(slot));
            levels[to] = levels[slot];
            upper_at[to] = static_cast<Slot>(lists - levels[to]);
            parents[to] = place[parents[slot]];
        }
        upper = packed;
        upper_used = lists;
        if (n > 0) {
            links.entry = place[links.entry];
            links.root = place[links.root];
        }
        used = n;
        capacity = 0;
        live = Bits();
        reserve(std::max<std::int64_t>(n, 1));
        for (std::int64_t slot = 0; slot < n; ++slot) live.set(static_cast<Slot>(slot));
        refer();
        return place;
    }

    // What a query is compared as: for Euclidean moved like the vectors. `room` has `dim` floats.
    const float* moved(const float* query, float* room) const {
        if (shape.metric != Metric::euclidean) return query;
        for (std::int64_t d = 0; d < shape.dim; ++d) room[d] = query[d] - centre[d];
        return room;
    }
};

// Memory of one thread at work, kept for the next.
struct Work {
    Buffer<std::uint8_t> visited[max_together];
    Buffer<Entry> pools[max_together];
    Buffer<Slot> pending[max_together];
    Buffer<float> scores[max_together];
    Buffer<std::int8_t> needles[max_together];
    Scratch scratch[max_together] = {};
    Buffer<std::int8_t> room;    // a needle of a stored vector
    Buffer<float> floats;        // vectors
    Buffer<Slot> slots;
    Buffer<Entry> ranked;
    Buffer<std::uint8_t> firm;
    Buffer<float> exact;
    std::vector<Slot> found;
    std::vector<Entry> entries;
    std::vector<Hit> hits;

    void fit(const World& world, std::int64_t ef, int together) {
        const std::int64_t width = world.width(0), dim = world.shape.dim;
        for (int i = 0; i < together; ++i) {
            visited[i].fit((world.capacity + 7) / 8);
            pools[i].fit(ef + 32);
            pending[i].fit(4 * width + 80);
            scores[i].fit(4 * width + 96);
            needles[i].fit(needle_bytes(world.shape.code, dim));
            scratch[i].visited = visited[i].get();
            scratch[i].capacity = world.capacity;
            scratch[i].pool = pools[i].get() + 8;
            scratch[i].pending = pending[i].get();
            scratch[i].scores = scores[i].get();
        }
        room.fit(needle_bytes(world.shape.code, dim));
        floats.fit(2 * dim * max_together);
        slots.fit(std::max(ef, 2 * width) + 80);
        ranked.fit(std::max(ef, 2 * width) + 80);
        firm.fit(2 * width + 80);
    }
};

}  // namespace madang
