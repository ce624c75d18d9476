// Adding vectors to a small world in batches, in parallel, with the same result for any number of threads (the idea of
// ParlayANN, Manohar et al. 2024): every vector of a batch searches the graph as it was before the batch, and among the
// batch itself; then links back are grouped by the slot they start from, and each slot's list is rewritten by one
// thread.
#pragma once

#include <mutex>
#include <shared_mutex>

#include "world.hpp"

namespace madang {

class Builder {
public:
    // Readers hold `gate` shared; what they can see changes only under it.
    Builder(World& world, const Kernel& kernel, std::shared_mutex& gate, int threads)
        : world_(world), kernel_(kernel), gate_(gate), threads_(threads), works_(static_cast<std::size_t>(threads)) {
        for (Work& work : works_) work.fit(world, world.shape.ef_construction + 8, 1);
    }

    // Link slots that are encoded and have their empty lists; afterwards they are live.
    // `went_live` is called for each, in order and under the gate.
    template <class Call>
    void insert(const std::vector<Slot>& slots, Call went_live) {
        constexpr std::int64_t most = 1024;
        const auto end = static_cast<std::int64_t>(slots.size());
        std::int64_t at = 0;
        if (world_.links.entry == no_slot && end > 0) {
            const std::unique_lock lock(gate_);
            begin_with(slots[0]);
            went_live(slots[0]);
            at = 1;
        }
        while (at < end) {
            const std::int64_t known = std::max<std::int64_t>(world_.live_count, 1);
            const std::int64_t count = std::min({end - at, known, most});
            batch(slots.data() + at, count, went_live);
            at += count;
        }
    }

    // A link to `slot` that stays, from a slot that the root leads to: the nearest, or if it has no room, since all its
    // links are to children, one of its descendants. Down first: a tree full at the top is full for many levels.
    void adopt(Slot slot) {
        if (follow_copies(slot)) return;
        Work& work = works_[0];
        std::vector<Slot> stack{world_.links.root};
        const Slot* own = world_.list(slot, 0);
        for (std::int64_t i = world_.degree(slot, 0); i-- > 0;) stack.push_back(own[i]);
        Bits seen;
        seen.resize(world_.used);
        seen.set(slot);
        while (!stack.empty()) {
            const Slot from = stack.back();
            stack.pop_back();
            if (seen[from] || world_.parents[from] == no_slot) continue;
            seen.set(from);
            if (link_firmly(work, from, slot)) {
                world_.parents[slot] = from;
                return;
            }
            const Slot* children = world_.list(from, 0);
            for (std::int64_t i = 0; i < world_.width(0); ++i)  // each slot by a way of its own, so that the tree stays flat
                stack.push_back(children[(i + slot) % world_.width(0)]);
        }
    }

    // Add links back to `count` newcomers to a list, or those that its selection keeps.
    void link_back(Work& work, Slot slot, int level, const Slot* newcomers, std::int64_t count) {
        const std::int64_t width = world_.width(level);
        Slot* own = world_.list(slot, level);
        std::int64_t used = world_.degree(slot, level);
        work.found.clear();
        for (std::int64_t i = 0; i < count; ++i)
            if (newcomers[i] != slot && std::find(own, own + used, newcomers[i]) == own + used)
                work.found.push_back(newcomers[i]);
        const auto fresh = static_cast<std::int64_t>(work.found.size());
        if (used + fresh <= width) {
            std::copy(work.found.begin(), work.found.end(), own + used);
            return;
        }
        rank_own(work, slot, level, used);
        work.entries.resize(work.found.size());
        kernel_.rank(world_.links.table, slot, work.found.data(), fresh, work.entries.data(), work.room.get());
        for (const Entry newcomer : work.entries)
            used = kernel_.merge_link(world_.links.table, slot, work.ranked.get(), work.firm.get(), used, newcomer, false,
                                      width, alpha2(level), work.slots.get(), work.scores[0].get(), work.room.get());
        write_ranked(work, slot, level, used);
    }

    // Add a link back for each edge: the slot linked to, which will link back, above the one that links.
    void link_back_edges(std::vector<std::uint64_t>& edges, int level) {
        std::sort(edges.begin(), edges.end());
        std::vector<std::size_t> starts;
        std::vector<Slot> sources(edges.size());
        for (std::size_t i = 0; i < edges.size(); ++i) {
            if (i == 0 || edges[i] >> 32 != edges[i - 1] >> 32) starts.push_back(i);
            sources[i] = static_cast<Slot>(edges[i]);
        }
        starts.push_back(edges.size());
        constexpr std::int64_t chunk = 16;
        const auto groups = static_cast<std::int64_t>(starts.size()) - 1;
        for_each((groups + chunk - 1) / chunk, threads_, [&](int thread, std::int64_t item) {
            for (std::int64_t i = item * chunk; i < std::min(groups, (item + 1) * chunk); ++i) {
                const std::size_t begin = starts[static_cast<std::size_t>(i)], end = starts[static_cast<std::size_t>(i) + 1];
                link_back(works_[static_cast<std::size_t>(thread)], static_cast<Slot>(edges[begin] >> 32), level,
                          sources.data() + begin, static_cast<std::int64_t>(end - begin));
            }
        });
    }

    float alpha2(int level) const {
        const float alpha = level == 0 || world_.shape.alpha == 0 ? world_.shape.alpha : 1.0F;
        return alpha * alpha;
    }

    std::vector<Work>& works() { return works_; }
    int threads() const { return threads_; }

private:
    void begin_with(Slot slot) {
        world_.links.entry = world_.links.root = slot;
        world_.links.top = world_.levels[slot];
        world_.parents[slot] = slot;
        go_live(slot);
    }

    void go_live(Slot slot) {
        world_.live.set(slot);
        ++world_.live_count;
    }

    template <class Call>
    void batch(const Slot* slots, std::int64_t count, Call& went_live) {
        int top = world_.links.top;
        for (std::int64_t i = 0; i < count; ++i) top = std::max<int>(top, world_.levels[slots[i]]);
        std::vector<std::vector<Slot>> members(static_cast<std::size_t>(top) + 1);
        for (std::int64_t i = 0; i < count; ++i)
            for (int level = 0; level <= world_.levels[slots[i]]; ++level)
                members[static_cast<std::size_t>(level)].push_back(slots[i]);
        constexpr std::int64_t chunk = 8;
        for_each((count + chunk - 1) / chunk, threads_, [&](int thread, std::int64_t item) {
            for (std::int64_t i = item * chunk; i < std::min(count, (item + 1) * chunk); ++i)
                choose_links(works_[static_cast<std::size_t>(thread)], slots[i], members);
        });
        const std::unique_lock lock(gate_);
        for (int level = 0; level <= top; ++level) link_back_all(members[static_cast<std::size_t>(level)], level);
        for (std::int64_t i = 0; i < count; ++i) {
            find_parent(slots[i]);
            go_live(slots[i]);
            went_live(slots[i]);
            if (world_.levels[slots[i]] <= world_.links.top) continue;
            world_.links.top = world_.levels[slots[i]];
            world_.links.entry = slots[i];
        }
    }

    // The links of a new slot on each of its levels.
    void choose_links(Work& work, Slot slot, const std::vector<std::vector<Slot>>& members) {
        const Links& links = world_.links;
        const Needle needle = kernel_.needle_of(links.table, slot, work.needles[0].get());
        const int level_top = world_.levels[slot];
        Slot from = links.entry;
        if (level_top < links.top) from = kernel_.descend(links, needle, from, links.top, level_top);
        for (int level = level_top; level >= 0; --level) {
            const std::vector<Slot>& others = members[static_cast<std::size_t>(level)];
            Slot nearest = level <= links.top ? from : slot;
            const std::int64_t found = kernel_.gather(links, needle, slot, level, world_.shape.ef_construction, nearest,
                                                      others.data(), static_cast<std::int64_t>(others.size()),
                                                      work.scratch[0]);
            if (level <= links.top) from = nearest;
            const std::int64_t kept = kernel_.select(links.table, slot, work.scratch[0].pool, found,
                                                     world_.shape.layered ? world_.width(level) : world_.shape.m,
                                                     alpha2(level), work.slots.get(), work.room.get());
            world_.write_list(slot, level, work.slots.get(), kept);
        }
    }

    void link_back_all(const std::vector<Slot>& members, int level) {
        std::vector<std::uint64_t> edges;
        for (const Slot slot : members) {
            const Slot* own = world_.list(slot, level);
            for (std::int64_t i = 0, n = world_.degree(slot, level); i < n; ++i)
                edges.push_back(static_cast<std::uint64_t>(own[i]) << 32 | slot);
        }
        link_back_edges(edges, level);
    }

    // The nearest slot that the root leads to and that links back becomes the parent. Where it is a copy that waits for
    // its own parent, that comes first.
    void find_parent(Slot slot, bool first = true) {
        if (world_.parents[slot] != no_slot) return;
        const Slot* own = world_.list(slot, 0);
        if (first && own[0] != slot && world_.parents[own[0]] == no_slot && world_.same_code(own[0], slot))
            find_parent(own[0], false);
        if (follow_copies(slot)) return;
        for (std::int64_t i = 0, n = world_.degree(slot, 0); i < n; ++i) {
            const Slot* theirs = world_.list(own[i], 0);
            if (world_.parents[own[i]] == no_slot
                || std::find(theirs, theirs + world_.width(0), slot) == theirs + world_.width(0))
                continue;
            world_.parents[slot] = own[i];
            return;
        }
        adopt(slot);
    }

    // Copies of a vector prune each other out of every list. So that whoever finds one finds all, they make a tree of
    // their own, each with few children, and are nearest to a query together. Whether there was a place for this one.
    bool follow_copies(Slot slot) {
        constexpr std::int64_t most = 4;
        if (world_.degree(slot, 0) == 0) return false;
        Slot from = world_.list(slot, 0)[0];  // the nearest
        if (from == slot || world_.parents[from] == no_slot || !world_.same_code(from, slot)) return false;
        for (;;) {
            Slot children[most];
            std::int64_t count = 0;
            const Slot* theirs = world_.list(from, 0);
            for (std::int64_t i = 0, n = world_.degree(from, 0); i < n && count < most; ++i)
                if (world_.parents[theirs[i]] == from && theirs[i] != from && theirs[i] != slot && world_.same_code(theirs[i], slot))
                    children[count++] = theirs[i];
            if (count == most) {
                from = children[slot % most];
                continue;
            }
            if (!link_firmly(works_[0], from, slot)) return false;
            world_.parents[slot] = from;
            return true;
        }
    }

    bool link_firmly(Work& work, Slot from, Slot to) {
        const std::int64_t before = world_.degree(from, 0);
        Slot* own = world_.list(from, 0);
        if (std::find(own, own + before, to) != own + before) return true;
        rank_own(work, from, 0, before);
        Entry newcomer[4];
        kernel_.rank(world_.links.table, from, &to, 1, newcomer, work.room.get());
        const std::int64_t used = kernel_.merge_link(world_.links.table, from, work.ranked.get(), work.firm.get(), before,
                                                     newcomer[0], true, world_.width(0), alpha2(0), work.slots.get(),
                                                     work.scores[0].get(), work.room.get());
        write_ranked(work, from, 0, used);
        return std::find(own, own + used, to) != own + used;
    }

    void rank_own(Work& work, Slot slot, int level, std::int64_t used) {
        kernel_.rank(world_.links.table, slot, world_.list(slot, level), used, work.ranked.get(), work.room.get());
        for (std::int64_t i = 0; i < used; ++i) {
            const Slot other = static_cast<Slot>(work.ranked[i]) >> 1;
            work.firm[i] = level == 0 && world_.parents[other] == slot && other != slot ? 1 : 0;
        }
    }

    void write_ranked(Work& work, Slot slot, int level, std::int64_t used) {
        for (std::int64_t i = 0; i < used; ++i) work.slots[i] = static_cast<Slot>(work.ranked[i]) >> 1;
        world_.write_list(slot, level, work.slots.get(), used);
    }

    World& world_;
    const Kernel& kernel_;
    std::shared_mutex& gate_;
    int threads_;
    std::vector<Work> works_;
};

}  // namespace madang
