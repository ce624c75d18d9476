// A small world that can be searched by several threads while one changes it: what Python's HNSW and NSW are.
#pragma once

#include <atomic>
#include <limits>
#include <numeric>
#include <optional>

#include "heal.hpp"
#include "rows.hpp"

namespace madang {

// How a search goes about it: the cheaper of the next two; along the links; comparing all codes; or all vectors exactly.
enum class Plan : int { choose, graph, codes, exact };

// A search: the k best rows of every query, (query_count, k) each, padded with -1 and -infinity.
struct Wanted {
    const float* queries;  // (query_count, dim), prepared
    std::int64_t query_count;
    std::int64_t k;
    std::int64_t ef;
    std::int64_t rerank;              // candidates whose exact scores are computed, at least k
    const std::int64_t* rows;         // (row_count,) strictly ascending, or null
    std::int64_t row_count;
    const std::uint8_t* mask;         // (mask_size,) by row, or null; later rows are not marked
    std::int64_t mask_size;
    Plan plan;
    std::int64_t spare = 0;           // so many of the k are a reserve, which the search need not be broader for
};

struct Found {
    std::int64_t* rows;
    float* scores;
    std::int64_t evaluations = 0;
    bool scanned = false;
};

class Graph {
public:
    Graph(const Shape& shape, const Kernel& (*kernel)()) : world_(shape), kernel_(kernel) {}

    // Add prepared vectors as new rows, or where `replacing` as these rows, whether they are there or not yet.
    // Throws std::bad_alloc.
    void add(const float* vectors, std::int64_t count, std::int64_t* rows, bool replacing, std::int64_t wanted_threads) {
        const std::lock_guard writing(writing_);
        if (count == 0) return;
        const int threads = thread_count(wanted_threads, static_cast<double>(count) * 4e6);
        const std::vector<Slot> slots = place(vectors, count, rows, replacing, threads);
        const std::vector<std::int64_t> order = shuffled(count);
        std::vector<Slot> mixed(slots.size());
        for (std::size_t i = 0; i < slots.size(); ++i) mixed[i] = slots[static_cast<std::size_t>(order[i])];
        std::int64_t next = 0;
        {
            Builder builder(world_, kernel_(), gate_, threads);
            builder.insert(mixed, [&](Slot slot) {  // slots go live in order; what a row had before is dead from then on
                const std::int64_t row = rows[order[static_cast<std::size_t>(next++)]];
                if (replacing) bury(&row, 1);
                rows_.set(row, slot);
            });
        }
        if (replacing) {
            for (std::int64_t i = 0; i < count; ++i) rows_ever = std::max(rows_ever, rows[i] + 1);
            heal(threads, false);
        }
        measure_spread();
    }

    // Remove rows; returns how many there were.
    std::int64_t remove(const std::int64_t* rows, std::int64_t count, std::int64_t wanted_threads) {
        const std::lock_guard writing(writing_);
        std::int64_t gone = 0;
        {
            const std::unique_lock lock(gate_);
            gone = bury(rows, count);
        }
        heal(thread_count(wanted_threads, static_cast<double>(world_.used) * 1e4), false);
        return gone;
    }

    // Cut dead slots out now, and link what nothing leads to. Returns how many slots needed that.
    std::int64_t repair(std::int64_t wanted_threads) {
        const std::lock_guard writing(writing_);
        const int threads = thread_count(wanted_threads, static_cast<double>(world_.used) * 1e4);
        heal(threads, true);
        const std::unique_lock lock(gate_);
        Builder builder(world_, kernel_(), gate_, threads);
        return Healer(world_, kernel_(), builder).grow_tree();
    }

    void search(const Wanted& wanted, std::int64_t wanted_threads, Found& found) {
        const std::shared_lock lock(gate_);
        search_within(wanted, wanted_threads, found);
    }

    // As search, without ever waiting for who changes the graph: false where somebody does.
    bool try_search(const Wanted& wanted, std::int64_t wanted_threads, Found& found) {
        const std::shared_lock lock(gate_, std::try_to_lock);
        if (!lock) return false;
        search_within(wanted, wanted_threads, found);
        return true;
    }

    void search_within(const Wanted& wanted, std::int64_t wanted_threads, Found& found) {
        const std::int64_t n = wanted.query_count;
        if (world_.live_count == 0) return blank(0, n, wanted, found);
        std::vector<std::uint64_t> bits;
        const std::optional<Allowed> allowed = allowance(wanted, bits);
        if (allowed && allowed->count == 0) return blank(0, n, wanted, found);
        const std::int64_t reach = allowed ? allowed->count : world_.live_count;
        Plan plan = wanted.plan;
        if (plan == Plan::choose && allowed && reach <= codes_per_place * std::max(wanted.ef, wanted.rerank)) plan = Plan::codes;
        // So few that most would be ranked exactly anyway are not compared by codes first.
        if (plan == Plan::codes && wanted.plan == Plan::choose && reach <= 3 * wanted.rerank) plan = Plan::exact;
        found.scanned = plan == Plan::codes || plan == Plan::exact;
        const bool free = !allowed && !found.scanned;
        const Allowed among = allowed ? *allowed : everything();
        const std::int64_t chunk = free ? 4 * max_together : 1;
        const int threads = thread_count(wanted_threads, static_cast<double>(n) * 2e5);
        std::atomic<std::int64_t> evaluations{0};
        for_each((n + chunk - 1) / chunk, threads, [&](int, std::int64_t item) {
            std::unique_ptr<Work> work = borrow();
            const std::int64_t ef = std::min(std::max({wanted.ef, wanted.rerank, wanted.k}), std::max<std::int64_t>(reach, 1));
            work->fit(world_, free ? most_breadth * ef : std::min(wide_factor * ef, reach), max_together);
            const std::int64_t end = std::min(n, (item + 1) * chunk);
            for (std::int64_t q = item * chunk; q < end; q += max_together) {  // one by one where not free
                const int count = static_cast<int>(std::min<std::int64_t>(max_together, end - q));
                if (free) evaluations += search_all(*work, wanted, q, count, ef, found);
                else if (plan == Plan::exact) evaluations += search_exactly(*work, wanted, among, q, found);
                else evaluations += search_allowed(*work, wanted, among, plan == Plan::codes, q, ef, found);
            }
            give_back(std::move(work));
        });
        found.evaluations = evaluations;
    }

    const World& world() const { return world_; }
    World& world() { return world_; }
    RowMap& row_map() { return rows_; }
    std::shared_mutex& gate() { return gate_; }
    std::mutex& writing() { return writing_; }
    std::int64_t rows_ever = 0;
    std::vector<Slot> free_slots;  // descending, so that the lowest is taken first
    Bits dead;
    std::int64_t dead_count = 0;

    // Heal everything that is dead, whether it is worth it or not; the caller holds `writing`.
    void settle(std::int64_t wanted_threads) {
        heal(thread_count(wanted_threads, static_cast<double>(world_.used) * 1e4), true);
    }

private:
    static constexpr std::int64_t wide_factor = 5;  // see find_among
    static constexpr std::int64_t most_depth = 4;   // times as many are ranked exactly after comparing many by codes
    static constexpr std::int64_t most_breadth = 3;

    // Followed are not just the `ef` best: those within the distance that the ef-th has on average (see measure_spread),
    // so that a query with many near neighbours gets more and one with few gets less; and never fewer than half of `ef`
    // nor more than three times as many. For dot there is no distance to go by. `ef`, at least k, may be less than
    // what is `kept` for ranking: not all of that is followed.
    Stop stop_for(std::int64_t k, std::int64_t ef, std::int64_t kept) const {
        const std::int64_t rank = std::min(k, kept);
        if (world_.spread == 0 || rank == ef) return {1, ef, kept, kept, 0};
        const float slack = std::pow(static_cast<float>(ef) / static_cast<float>(rank), world_.spread);
        return {rank, std::max(ef / 2, rank), kept, most_breadth * kept, slack};
    }

    // How squared distances grow with the rank of a neighbour: as rank^spread, by the 10th and the 100th of a sample (2 /
    // spread is an estimate of the intrinsic dimension). Found anew whenever there is four times as much.
    void measure_spread() {
        constexpr std::int64_t fewest = 1000, sampled = 64, near = 10, far = 100, ef = 128;
        if (world_.shape.metric == Metric::dot || world_.live_count < std::max(fewest, 4 * world_.spread_on)) return;
        const std::unique_ptr<Work> work = std::make_unique<Work>();
        work->fit(world_, ef, 1);
        std::vector<float> growth;
        const std::int64_t step = std::max<std::int64_t>(world_.used / sampled, 1);
        for (std::int64_t i = 0; i < world_.used; i += step) {
            const auto slot = static_cast<Slot>(i);
            if (!world_.live[slot]) continue;
            const Needle needle = kernel_().needle_of(world_.links.table, slot, work->needles[0].get());
            std::int64_t size = 0;
            kernel_().find(world_.links, &needle, 1, {1, ef, ef, ef, 0}, work->scratch, &size);
            if (size <= far) continue;
            const auto squared = [&](std::int64_t rank) { return -2 * (world_.bias(slot) + score_of(work->scratch[0].pool[rank])); };
            if (squared(near) > 0 && squared(far) > squared(near)) growth.push_back(std::log(squared(far) / squared(near)));
        }
        const std::unique_lock lock(gate_);
        world_.spread_on = world_.live_count;
        if (growth.size() * 2 < static_cast<std::size_t>(sampled)) {  // mostly copies: go by ranks
            world_.spread = 0;
            return;
        }
        const auto middle = growth.begin() + static_cast<std::ptrdiff_t>(growth.size() / 2);
        std::nth_element(growth.begin(), middle, growth.end());
        // Where all are about equally far, a little more: the k-th so far says less.
        world_.spread = std::max(*middle / std::log(static_cast<float>(far) / near), 0.065F);
    }

    // Numbers below `count` in an order that is always the same and that no data has: what is alike often comes together,
    // and a batch that is all alike would find no links to the rest.
    static std::vector<std::int64_t> shuffled(std::int64_t count) {
        std::vector<std::int64_t> order(static_cast<std::size_t>(count));
        std::iota(order.begin(), order.end(), std::int64_t{0});
        std::uint64_t state = 0x9E3779B97F4A7C15ULL;
        for (std::int64_t i = count - 1; i > 0; --i) {  // Fisher-Yates with a linear congruential generator (Knuth's MMIX)
            state = state * 6364136223846793005ULL + 1442695040888963407ULL;
            std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>((state >> 33) % static_cast<std::uint64_t>(i + 1))]);
        }
        return order;
    }

    // Slots for vectors, filled but not linked.
    std::vector<Slot> place(const float* vectors, std::int64_t count, std::int64_t* rows, bool replacing, int threads) {
        const std::unique_lock lock(gate_);
        const std::int64_t reused = std::min<std::int64_t>(count, static_cast<std::int64_t>(free_slots.size()));
        const std::int64_t needed = world_.used + count - reused;
        if (needed > world_.capacity) {
            world_.reserve(world_.capacity == 0 ? needed : std::max(needed, world_.capacity + world_.capacity / 4));
            dead.resize(world_.capacity);
        }
        if (reused > 0 || replacing) rows_.tell_apart(world_);
        rows_.fit(world_);
        if (world_.shape.metric == Metric::euclidean && world_.live_count + count >= 4 * world_.centred_on)
            find_centre(vectors, count, threads);
        std::vector<Slot> slots(static_cast<std::size_t>(count));
        for (std::int64_t i = 0; i < count; ++i) {
            Slot slot = static_cast<Slot>(world_.used);
            if (!free_slots.empty()) {
                slot = free_slots.back();
                free_slots.pop_back();
            } else {
                ++world_.used;
            }
            if (!replacing) rows[i] = rows_ever++;
            world_.levels[slot] = static_cast<std::uint8_t>(world_.level_of(rows[i]));
            world_.parents[slot] = no_slot;
            world_.make_lists(slot);
            slots[static_cast<std::size_t>(i)] = slot;
        }
        encode(slots, vectors, threads);
        return slots;
    }

    // Codes are relative to the middle of the data: far from the origin they would lose its differences. It is found
    // anew, and all codes are written again, whenever there is four times as much. The median of each dimension, among
    // a sample, since a mean follows a single vector far away.
    void find_centre(const float* vectors, std::int64_t count, int threads) {
        constexpr std::int64_t sampled = 1000;
        const std::int64_t dim = world_.shape.dim, old = world_.live_count, total = old + count;
        std::vector<Slot> stored;
        for (Slot slot = 0; slot < world_.used; ++slot)
            if (world_.live[slot]) stored.push_back(slot);
        std::vector<float> sample;
        const std::int64_t step = (total + sampled - 1) / sampled;
        for (std::int64_t i = 0; i < total; i += step) {
            const std::size_t at = sample.size();
            sample.resize(at + static_cast<std::size_t>(dim));
            if (i < old) world_.copy_vector(stored[static_cast<std::size_t>(i)], sample.data() + at);
            else std::copy_n(vectors + (i - old) * dim, dim, sample.data() + at);
        }
        std::vector<float> values(sample.size() / static_cast<std::size_t>(dim));
        for (std::int64_t d = 0; d < dim; ++d) {
            for (std::size_t i = 0; i < values.size(); ++i) values[i] = sample[i * static_cast<std::size_t>(dim) + static_cast<std::size_t>(d)];
            const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
            std::nth_element(values.begin(), middle, values.end());
            world_.centre[d] = *middle;
        }
        world_.centred_on = total;
        encode(stored, nullptr, threads);
    }

    // Write the codes of slots: of the vectors at `from` in order, or where that is null of what they hold.
    void encode(const std::vector<Slot>& slots, const float* from, int threads) {
        constexpr std::int64_t chunk = 64;
        const auto count = static_cast<std::int64_t>(slots.size());
        for_each((count + chunk - 1) / chunk, threads, [&](int, std::int64_t item) {
            const std::int64_t dim = world_.shape.dim;
            std::vector<float> room(static_cast<std::size_t>(2 * dim));
            for (std::int64_t i = item * chunk; i < std::min(count, (item + 1) * chunk); ++i) {
                const Slot slot = slots[static_cast<std::size_t>(i)];
                if (from == nullptr) world_.copy_vector(slot, room.data() + dim);
                world_.encode_slot(slot, from == nullptr ? room.data() + dim : from + i * dim, room.data());
            }
        });
    }

    std::int64_t bury(const std::int64_t* rows, std::int64_t count) {
        std::int64_t gone = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            const Slot slot = rows_.slot_of(rows[i], world_);
            if (slot == no_slot) continue;
            world_.live.clear(slot);
            --world_.live_count;
            dead.set(slot);
            ++dead_count;
            rows_.forget(rows[i]);
            ++gone;
        }
        return gone;
    }

    // Cut the dead out once they are a sixteenth, or all of them.
    void heal(int threads, bool all) {
        if (dead_count == 0 || (!all && dead_count * 16 < world_.live_count)) return;
        if (dead_count * 4 > world_.live_count) return rebuild(threads);
        const std::unique_lock lock(gate_);
        Builder builder(world_, kernel_(), gate_, threads);
        Healer(world_, kernel_(), builder).cut_out(dead);
        for (Slot slot = 0; slot < world_.used; ++slot) {
            if (!dead[slot]) continue;
            world_.levels[slot] = 0;
            world_.write_list(slot, 0, nullptr, 0);
            free_slots.push_back(slot);
        }
        std::sort(free_slots.rbegin(), free_slots.rend());
        std::fill(dead.words().begin(), dead.words().end(), 0);
        dead_count = 0;
        if (world_.live_count == 0) world_.links.entry = world_.links.root = no_slot;
        std::int64_t lists = 0;
        for (Slot slot = 0; slot < world_.used; ++slot) lists += world_.levels[slot];
        if (static_cast<std::int64_t>(free_slots.size()) * 10 > world_.used || world_.upper_used * 10 > lists * 11 + 100)
            close_up();
    }

    // Where so much is dead that what it led to is no longer near, the rest is linked from the beginning, beside the old
    // graph, which is searched meanwhile.
    void rebuild(int threads) {
        std::vector<Slot> order;
        for (Slot slot = 0; slot < world_.used; ++slot)
            if (world_.live[slot]) order.push_back(slot);
        std::sort(order.begin(), order.end(), [&](Slot a, Slot b) { return rows_.row_of(a) < rows_.row_of(b); });
        World made(world_.shape);
        made.centre = world_.centre;
        made.centred_on = world_.centred_on;
        made.spread = world_.spread;
        made.spread_on = world_.spread_on;
        made.used = static_cast<std::int64_t>(order.size());
        made.reserve(std::max<std::int64_t>(made.used, 1));
        std::vector<Slot> place(static_cast<std::size_t>(world_.used), no_slot), slots(order.size());
        for (std::size_t i = 0; i < order.size(); ++i) {
            slots[i] = static_cast<Slot>(i);
            place[order[i]] = slots[i];
            made.take_slot(slots[i], world_, order[i]);
        }
        std::shared_mutex unseen;
        Builder(made, kernel_(), unseen, threads).insert(slots, [](Slot) {});
        const std::unique_lock lock(gate_);
        rows_.tell_apart(world_);
        rows_.move(place, made);
        world_ = std::move(made);
        free_slots.clear();
        dead = Bits();
        dead.resize(world_.capacity);
        dead_count = 0;
    }

    // Where more than a tenth is free, or of the lists above the lowest level, the rest moves together.
    void close_up() {
        rows_.tell_apart(world_);
        rows_.move(world_.close_up(), world_);
        free_slots.clear();
        dead = Bits();
        dead.resize(world_.capacity);
    }

    // The slots that may be found, or nothing where all may.
    std::optional<Allowed> allowance(const Wanted& wanted, std::vector<std::uint64_t>& bits) const {
        if (wanted.rows == nullptr && wanted.mask == nullptr && dead_count == 0) return std::nullopt;
        const auto words = static_cast<std::size_t>((world_.used + 63) / 64);
        bits.assign(words, 0);
        if (wanted.rows != nullptr) {
            for (std::int64_t i = 0; i < wanted.row_count; ++i) {
                const Slot slot = rows_.slot_of(wanted.rows[i], world_);
                if (slot != no_slot) bits[slot >> 6] |= 1ULL << (slot & 63);
            }
        } else if (wanted.mask != nullptr) {
            pack_mask(wanted.mask, wanted.mask_size, bits);
            for (std::size_t i = 0; i < words; ++i) bits[i] &= world_.live.words()[i];
        } else {
            std::copy_n(world_.live.words().begin(), words, bits.begin());
        }
        const std::int64_t count = kernel_().count_bits(bits.data(), static_cast<std::int64_t>(words));
        if (count == world_.live_count && dead_count == 0) return std::nullopt;
        return Allowed{bits.data(), static_cast<std::int64_t>(words), count};
    }

    // A byte per row to a bit per slot.
    void pack_mask(const std::uint8_t* mask, std::int64_t size, std::vector<std::uint64_t>& bits) const {
        std::int64_t slot = 0;
        if (rows_.same()) {
            const std::int64_t words = std::min(world_.used, size) / 64;
            kernel_().pack_mask(mask, words, bits.data());
            slot = words * 64;
        }
        for (; slot < world_.used; ++slot) {
            const std::int64_t row = rows_.row_of(static_cast<Slot>(slot));
            if (row < size && mask[row] != 0) bits[static_cast<std::size_t>(slot >> 6)] |= 1ULL << (slot & 63);
        }
    }

    Allowed everything() const {
        return {world_.live.words().data(), (world_.used + 63) / 64, world_.live_count};
    }

    Needle prepare_query(Work& work, const Wanted& wanted, std::int64_t q, int place) const {
        const float* query = wanted.queries + q * world_.shape.dim;
        const float* moved = world_.moved(query, work.floats.get());
        Needle made = needle_for(world_.shape.code, moved, world_.shape.dim, world_.shape.metric == Metric::euclidean ? 1.0F : 0.0F,
                          work.needles[place].get());
        made.square = world_.shape.metric == Metric::euclidean ? static_cast<float>(squared_norm(moved, world_.shape.dim)) : 2.0F;
        return made;
    }

    std::int64_t search_all(Work& work, const Wanted& wanted, std::int64_t q, int count, std::int64_t ef, Found& found) const {
        Needle needles[max_together];
        std::int64_t sizes[max_together];
        for (int i = 0; i < count; ++i) {
            needles[i] = prepare_query(work, wanted, q + i, i);
            work.scratch[i].evaluations = 0;
        }
        const std::int64_t k = wanted.k - wanted.spare;
        kernel_().find(world_.links, needles, count, stop_for(k, std::min(std::max(wanted.ef, k), ef), ef), work.scratch, sizes);
        std::int64_t evaluations = 0;
        for (int i = 0; i < count; ++i) {
            evaluations += work.scratch[i].evaluations;
            report(work, work.scratch[i].pool, std::min(sizes[i], std::max(wanted.rerank, wanted.k)), q + i, wanted, found);
        }
        return evaluations;
    }

    std::int64_t search_allowed(Work& work, const Wanted& wanted, const Allowed& allowed, bool scan, std::int64_t q,
                                std::int64_t ef, Found& found) const {
        Scratch& scratch = work.scratch[0];
        scratch.evaluations = 0;
        const Needle needle = prepare_query(work, wanted, q, 0);
        std::int64_t size = 0;
        if (!scan) size = kernel_().find_allowed(world_.links, allowed, needle, ef,
                                                    std::min(wide_factor * ef, allowed.count), scratch);
        // -1, or what is allowed lies in islands that the search did not come to.
        std::int64_t depth = std::max(wanted.rerank, wanted.k);
        if (scan || size < std::min(wanted.k, allowed.count)) {
            // Among so many that are hardly nearer than one another more are ranked; beside comparing them all it costs little.
            depth = std::max(depth, std::min(most_depth * depth, allowed.count / 64));
            size = kernel_().scan_codes(world_.links.table, allowed, needle, std::min(depth, allowed.count), scratch);
        }
        report(work, scratch.pool, std::min(size, depth), q, wanted, found);
        return scratch.evaluations;
    }

    std::int64_t search_exactly(Work& work, const Wanted& wanted, const Allowed& allowed, std::int64_t q, Found& found) const {
        work.slots.fit(allowed.count + 8);
        std::int64_t count = 0;
        for (std::int64_t word = 0; word < allowed.words; ++word)
            for (std::uint64_t bits = allowed.bits[word]; bits != 0; bits &= bits - 1)
                work.slots[count++] = static_cast<Slot>(word * 64 + __builtin_ctzll(bits));
        report_slots(work, count, q, wanted, found);
        return count;
    }

    // Exact scores of the best candidates, and of these the k best.
    void report(Work& work, const Entry* pool, std::int64_t count, std::int64_t q, const Wanted& wanted, Found& found) const {
        work.slots.fit(count + 8);
        for (std::int64_t i = 0; i < count; ++i) work.slots[i] = slot_of(pool[i]);
        report_slots(work, count, q, wanted, found);
    }

    void report_slots(Work& work, std::int64_t count, std::int64_t q, const Wanted& wanted, Found& found) const {
        const std::int64_t dim = world_.shape.dim;
        work.exact.fit(count + 8);
        const float* query = wanted.queries + q * dim;
        kernel_().rescore(world_.exact(), dim, world_.shape.metric, query, work.slots.get(), count, work.exact.get());
        work.hits.resize(static_cast<std::size_t>(count));
        for (std::int64_t i = 0; i < count; ++i)
            work.hits[static_cast<std::size_t>(i)] = {work.exact[i], rows_.row_of(work.slots[i])};
        const std::int64_t kept = std::min(count, wanted.k);
        std::partial_sort(work.hits.begin(), work.hits.begin() + kept, work.hits.end(), [](const Hit& a, const Hit& b) {
            return a.score > b.score || (a.score == b.score && a.row < b.row);
        });
        for (std::int64_t i = 0; i < kept; ++i) {
            found.rows[q * wanted.k + i] = work.hits[static_cast<std::size_t>(i)].row;
            found.scores[q * wanted.k + i] = work.hits[static_cast<std::size_t>(i)].score;
        }
        fill(q, kept, wanted, found);
    }

    static void fill(std::int64_t q, std::int64_t from, const Wanted& wanted, Found& found) {
        for (std::int64_t i = from; i < wanted.k; ++i) {
            found.rows[q * wanted.k + i] = -1;
            found.scores[q * wanted.k + i] = -std::numeric_limits<float>::infinity();
        }
    }

    static void blank(std::int64_t begin, std::int64_t end, const Wanted& wanted, Found& found) {
        for (std::int64_t q = begin; q < end; ++q) fill(q, 0, wanted, found);
    }

    std::unique_ptr<Work> borrow() {
        const std::lock_guard lock(works_guard_);
        if (works_.empty()) return std::make_unique<Work>();
        std::unique_ptr<Work> work = std::move(works_.back());
        works_.pop_back();
        return work;
    }

    void give_back(std::unique_ptr<Work> work) {
        const std::lock_guard lock(works_guard_);
        works_.push_back(std::move(work));
    }

    World world_;
    const Kernel& (*kernel_)();
    RowMap rows_;
    std::shared_mutex gate_;
    std::mutex writing_;
    std::mutex works_guard_;
    std::vector<std::unique_ptr<Work>> works_;
};

}  // namespace madang
