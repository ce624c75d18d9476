// A bounded heap with the worst hit on top. Hits are totally ordered (higher score, then lower row), so what
// it holds in the end does not depend on the order of the offers.
#pragma once

#include "types.hpp"

namespace madang::MADANG_ISA {

inline bool better(const Hit& a, const Hit& b) {
    return a.score > b.score || (a.score == b.score && a.row < b.row);
}

// Put `hit` into the hole at `at` or below it.
inline void sift_down(Hit* hits, std::int64_t size, std::int64_t at, Hit hit) {
    for (std::int64_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
        if (child + 1 < size && better(hits[child], hits[child + 1])) ++child;
        if (!better(hit, hits[child])) break;
        hits[at] = hits[child];
        at = child;
    }
    hits[at] = hit;
}

inline void offer(Heap& heap, Hit hit) {
    if (heap.size < heap.capacity) {
        std::int64_t at = heap.size++;
        for (std::int64_t parent = (at - 1) / 2; at > 0 && better(heap.hits[parent], hit); parent = (at - 1) / 2) {
            heap.hits[at] = heap.hits[parent];
            at = parent;
        }
        heap.hits[at] = hit;
    } else if (better(hit, heap.hits[0])) {
        sift_down(heap.hits, heap.size, 0, hit);
    }
}

inline void merge(Heap& into, const Heap& from) {
    for (std::int64_t i = 0; i < from.size; ++i) offer(into, from.hits[i]);
}

// Heap sort: the worst moves to the end, so the best ends up first. It is no heap any more.
inline void sort(Heap& heap) {
    for (std::int64_t last = heap.size - 1; last > 0; --last) {
        const Hit moved = heap.hits[last];
        heap.hits[last] = heap.hits[0];
        sift_down(heap.hits, last, 0, moved);
    }
}

}  // namespace madang::MADANG_ISA
