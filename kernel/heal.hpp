// Removing vectors so that the rest stays connected. A removed slot stays in the graph, dead, until there are enough of
// them to be worth a pass over all lists: then every list that led to dead slots gets what these led to (after
// FreshDiskANN, Singh et al. 2021), and their slots are free to be used again.
#pragma once

#include "build.hpp"

namespace madang {

class Healer {
public:
    Healer(World& world, const Kernel& kernel, Builder& builder) : world_(world), kernel_(kernel), builder_(builder) {}

    // Cut the dead slots out; `dead` are those in use that are neither live nor free. The caller holds the gate.
    void cut_out(const Bits& dead) {
        const auto work_on = [&](auto&& task) {
            constexpr std::int64_t chunk = 64;
            for_each((world_.used + chunk - 1) / chunk, builder_.threads(), [&](int thread, std::int64_t item) {
                for (std::int64_t slot = item * chunk; slot < std::min(world_.used, (item + 1) * chunk); ++slot)
                    if (world_.live[static_cast<Slot>(slot)])
                        task(builder_.works()[static_cast<std::size_t>(thread)], static_cast<Slot>(slot));
            });
        };
        std::fill_n(world_.parents.get(), world_.used, no_slot);  // no link is firm while all of them change
        for (int level = 0; level <= world_.links.top; ++level) {
            std::mutex guard;
            std::vector<std::uint64_t> added;
            work_on([&](Work& work, Slot slot) {
                if (level > world_.levels[slot] || !mend(work, slot, level, dead)) return;
                const std::lock_guard lock(guard);
                for (const Slot other : work.found) added.push_back(static_cast<std::uint64_t>(other) << 32 | slot);
            });
            builder_.link_back_edges(added, level);
        }
        enter_anew();
        grow_tree();
    }

    // Rebuild the tree that shows every live slot to be reachable, adding links where it is not; returns how many.
    std::int64_t grow_tree() {
        std::fill_n(world_.parents.get(), world_.used, no_slot);
        if (world_.live_count == 0) return 0;
        if (world_.links.root == no_slot || !world_.live[world_.links.root]) world_.links.root = world_.links.entry;
        world_.parents[world_.links.root] = world_.links.root;
        spread(world_.links.root);
        std::int64_t added = 0;
        for (Slot slot = 0; slot < world_.used; ++slot) {
            if (!world_.live[slot] || world_.parents[slot] != no_slot) continue;
            attach(slot);
            spread(slot);
            ++added;
        }
        return added;
    }

    // How many live slots the root leads to.
    static std::int64_t reachable(const World& world) {
        if (world.links.root == no_slot) return 0;
        std::vector<Slot> queue{world.links.root};
        Bits seen;
        seen.resize(world.used);
        seen.set(queue[0]);
        std::int64_t count = 0;
        for (std::size_t i = 0; i < queue.size(); ++i) {
            count += world.live[queue[i]] ? 1 : 0;
            const Slot* own = world.list(queue[i], 0);
            for (std::int64_t j = 0; j < world.width(0); ++j) {
                if (seen[own[j]]) continue;
                seen.set(own[j]);
                queue.push_back(own[j]);
            }
        }
        return count;
    }

private:
    // Replace a list's dead slots by the live ones they lead to, which are left in work.found; false if it had none.
    bool mend(Work& work, Slot slot, int level, const Bits& dead) {
        const std::int64_t width = world_.width(level), most = 8 * width;
        Slot* own = world_.list(slot, level);
        const std::int64_t used = world_.degree(slot, level);
        if (std::none_of(own, own + used, [&](Slot other) { return dead[other]; })) return false;
        std::vector<Slot> gone, candidates;
        const auto note = [&](Slot other) {
            if (other == slot) return;
            std::vector<Slot>& where = dead[other] ? gone : candidates;
            if (std::find(where.begin(), where.end(), other) == where.end()) where.push_back(other);
        };
        for (std::int64_t i = 0; i < used; ++i) note(own[i]);
        for (std::size_t i = 0; i < gone.size(); ++i) {  // through more dead ones, while there is too little else
            if (static_cast<std::int64_t>(i) >= used && static_cast<std::int64_t>(candidates.size()) >= width) break;
            if (static_cast<std::int64_t>(candidates.size() + gone.size()) >= most) break;
            const Slot* theirs = world_.list(gone[i], level);
            for (std::int64_t j = 0; j < width; ++j) note(theirs[j]);
        }
        work.entries.resize(candidates.size() + 4);
        const auto count = static_cast<std::int64_t>(candidates.size());
        if (count > 0)
            kernel_.rank(world_.links.table, slot, candidates.data(), count, work.entries.data(), work.room.get());
        const std::int64_t kept = kernel_.select(world_.links.table, slot, work.entries.data(), count, width,
                                                 builder_.alpha2(level), work.slots.get(), work.room.get());
        work.found.clear();
        for (std::int64_t i = 0; i < kept; ++i)
            if (std::find(own, own + used, work.slots[i]) == own + used) work.found.push_back(work.slots[i]);
        world_.write_list(slot, level, work.slots.get(), kept);
        return true;
    }

    // Where a search starts: of the live slots of the highest level the first.
    void enter_anew() {
        Links& links = world_.links;
        if (links.entry != no_slot && world_.live[links.entry]) return;
        links.entry = no_slot;
        links.top = -1;
        for (Slot slot = 0; slot < world_.used; ++slot) {
            if (!world_.live[slot] || world_.levels[slot] <= links.top) continue;
            links.top = world_.levels[slot];
            links.entry = slot;
        }
    }

    // Make `from` the parent of what it leads to and nothing else did yet, and so on.
    void spread(Slot from) {
        std::vector<Slot> queue{from};
        for (std::size_t i = 0; i < queue.size(); ++i) {
            const Slot* own = world_.list(queue[i], 0);
            for (std::int64_t j = 0; j < world_.width(0); ++j) {
                if (!world_.live[own[j]] || world_.parents[own[j]] != no_slot) continue;
                world_.parents[own[j]] = queue[i];
                queue.push_back(own[j]);
            }
        }
    }

    // Link a slot that is not reachable to the nearest ones that are, and these back to it.
    void attach(Slot slot) {
        Work& work = builder_.works()[0];
        const Links& links = world_.links;
        const Needle needle = kernel_.needle_of(links.table, slot, work.needles[0].get());
        Slot from = kernel_.descend(links, needle, links.entry, links.top, 0);
        if (world_.parents[from] == no_slot) from = links.root;
        const std::int64_t found = kernel_.gather(links, needle, slot, 0, world_.shape.ef_construction, from, nullptr, 0,
                                                  work.scratch[0]);
        std::vector<Slot> merged;
        for (std::int64_t i = 0; i < found; ++i) {
            const Slot other = static_cast<Slot>(work.scratch[0].pool[i]) >> 1;
            if (world_.live[other] && world_.parents[other] != no_slot) merged.push_back(other);
        }
        const auto few = std::min<std::size_t>(merged.size(), static_cast<std::size_t>(world_.shape.m));
        builder_.link_back(work, slot, 0, merged.data(), static_cast<std::int64_t>(few));
        builder_.adopt(slot);
    }

    World& world_;
    const Kernel& kernel_;
    Builder& builder_;
};

}  // namespace madang
