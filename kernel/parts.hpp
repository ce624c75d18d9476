// A graph as arrays, for writing it to a file and reading it back. The arrays hold the live vectors only, in the order of
// their rows, so that a file does not show what was removed before.
#pragma once

#include <string>

#include "graph.hpp"

namespace madang {

struct Parts {
    std::int64_t count = 0;
    Buffer<std::uint8_t> records;
    Buffer<float> facts, centre;
    Buffer<std::uint8_t> vectors, levels;
    Buffer<Slot> upper, parents;
    Buffer<std::int64_t> rows;   // none where row and slot are the same
    std::int64_t lists = 0;      // in `upper`
    Slot entry = no_slot, root = no_slot;
    int top = -1;
    std::int64_t rows_ever = 0;
    std::int64_t centred_on = 0;
    float spread = 0;
    std::int64_t spread_on = 0;
};

// Copies; the graph must have no dead slots (Graph::settle), and the caller holds its gate.
inline Parts take_apart(Graph& graph) {
    const World& world = graph.world();
    std::vector<Slot> order;
    order.reserve(static_cast<std::size_t>(world.live_count));
    for (Slot slot = 0; slot < world.used; ++slot)
        if (world.live[slot]) order.push_back(slot);
    const RowMap& map = graph.row_map();
    std::sort(order.begin(), order.end(), [&](Slot a, Slot b) { return map.row_of(a) < map.row_of(b); });
    std::vector<Slot> place(static_cast<std::size_t>(world.used), no_slot);
    for (std::size_t i = 0; i < order.size(); ++i) place[order[i]] = static_cast<Slot>(i);
    Parts made;
    const auto n = static_cast<std::int64_t>(order.size());
    const std::int64_t vector_bytes = world.vector_bytes(), stride = world.links.table.stride;
    made.count = n;
    made.records.resize(n * stride);
    made.facts.resize(2 * n);
    made.vectors.resize(n * vector_bytes);
    made.levels.resize(n);
    made.parents.resize(n);
    for (const Slot slot : order) made.lists += world.levels[slot];
    made.upper.resize(made.lists * world.links.upper_width);
    bool same = n == graph.rows_ever;
    std::int64_t at = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const Slot slot = order[static_cast<std::size_t>(i)];
        std::uint8_t* record = made.records.get() + i * stride;
        std::copy_n(world.records.get() + slot * stride, stride, record);
        auto* links = reinterpret_cast<Slot*>(record + world.links.table.links_at);
        for (std::int64_t j = 0; j < world.width(0); ++j) links[j] = place[links[j]];
        made.facts[2 * i] = world.scale(slot);
        made.facts[2 * i + 1] = world.bias(slot);
        std::copy_n(world.vectors.get() + slot * vector_bytes, vector_bytes, made.vectors.get() + i * vector_bytes);
        made.levels[i] = world.levels[slot];
        made.parents[i] = place[world.parents[slot]];
        for (int level = 1; level <= world.levels[slot]; ++level)
            for (std::int64_t j = 0; j < world.width(level); ++j)
                made.upper[at++] = place[world.list(slot, level)[j]];
        same = same && map.row_of(slot) == i;
    }
    if (!same) {
        made.rows.resize(n);
        for (std::int64_t i = 0; i < n; ++i) made.rows[i] = map.row_of(order[static_cast<std::size_t>(i)]);
    }
    made.centre = world.centre;
    if (n > 0) {
        made.entry = place[world.links.entry];
        made.root = place[world.links.root];
        made.top = world.links.top;
    }
    made.rows_ever = graph.rows_ever;
    made.centred_on = world.centred_on;
    made.spread = world.spread;
    made.spread_on = world.spread_on;
    return made;
}

// Put a graph that has nothing yet together; returns what is wrong with the parts, or nothing. A search may follow any
// link without a test afterwards.
inline std::string put_together(Graph& graph, const Parts& parts) {
    World& world = graph.world();
    const std::int64_t n = parts.count;
    std::int64_t lists = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        if (parts.levels[i] > max_level || static_cast<int>(parts.levels[i]) > parts.top) return "a level is too high";
        lists += parts.levels[i];
    }
    if (lists != parts.lists) return "the levels do not fit the lists";
    const auto within = [n](Slot slot) { return static_cast<std::int64_t>(slot) < n; };
    if (!(parts.spread >= 0 && parts.spread <= 100)) return "the spread is wrong";
    if (parts.rows_ever < n || parts.centred_on < 0 || parts.spread_on < 0) return "the counts do not fit";
    if (n == 0 && (parts.entry != no_slot || parts.root != no_slot || parts.top != -1))
        return "there is an entry without vectors";
    if (n > 0 && (!within(parts.entry) || !within(parts.root) || parts.levels[parts.entry] != parts.top))
        return "the entry is wrong";
    const std::int64_t stride = world.links.table.stride;
    for (std::int64_t i = 0; i < n; ++i) {
        const auto* links = reinterpret_cast<const Slot*>(parts.records.get() + i * stride + world.links.table.links_at);
        bool good = within(parts.parents[i]);
        for (std::int64_t j = 0; j < world.width(0); ++j) good &= within(links[j]);
        if (!good) return "slot " + std::to_string(i) + " has a link out of range";
    }
    for (std::int64_t i = 0; i < lists * world.links.upper_width; ++i)
        if (!within(parts.upper[i])) return "a link above the lowest level is out of range";
    // What a search reads all over is copied out of a mapped file: its pages are small, and to look one up takes longer
    // than to compare a vector.
    world.records.resize(n * stride);
    std::copy_n(parts.records.get(), n * stride, world.records.get());
    world.facts = parts.facts;
    world.vectors = parts.vectors;
    world.levels = parts.levels;
    world.upper = parts.upper;
    world.parents = parts.parents;
    if (world.shape.metric == Metric::euclidean) world.centre = parts.centre;
    world.capacity = world.used = world.live_count = n;
    world.upper_used = lists;
    world.upper_at.resize(std::max<std::int64_t>(n, 1));
    world.live.resize(n);
    graph.dead.resize(n);
    std::int64_t at = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        world.upper_at[i] = static_cast<Slot>(at);
        at += parts.levels[i];
        world.live.set(static_cast<Slot>(i));
    }
    for (std::int64_t i = 0, l = 0; i < n; ++i) {  // a list above must lead to slots that have that level
        for (int level = 1; level <= parts.levels[i]; ++level)
            for (std::int64_t j = 0; j < world.links.upper_width; ++j, ++l)
                if (parts.levels[parts.upper[l]] < level) return "a link leads to a slot without that level";
    }
    world.links.entry = parts.entry;
    world.links.root = parts.root;
    world.links.top = parts.top;
    world.refer();
    graph.rows_ever = parts.rows_ever;
    world.centred_on = parts.centred_on;
    world.spread = parts.spread;
    world.spread_on = parts.spread_on;
    if (parts.rows.size() > 0 || parts.rows_ever != n) {
        std::vector<std::int64_t> rows(parts.rows.get(), parts.rows.get() + parts.rows.size());
        for (std::size_t i = 0; i < rows.size(); ++i)
            if (rows[i] < 0 || rows[i] >= parts.rows_ever || (i > 0 && rows[i] <= rows[i - 1])) return "the rows are not ascending";
        if (static_cast<std::int64_t>(rows.size()) != n) return "there are not as many rows as vectors";
        graph.row_map().restore(std::move(rows));
    }
    return {};
}

}  // namespace madang
