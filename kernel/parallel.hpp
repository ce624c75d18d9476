// Threads for one call. They are started anew each time: it costs some ten microseconds where a search worth
// sharing takes milliseconds, and nothing is left behind that a fork could break.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace madang {

// The cores this process may run on.
inline int cores() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// How many threads to use when asked for `wanted` (0: all cores) with `work` multiply-adds to do.
inline int thread_count(std::int64_t wanted, double work) {
    constexpr double worthwhile = 1 << 20;  // about 0.1 ms, several times what starting a thread costs
    constexpr std::int64_t most = 256;
    const std::int64_t asked = wanted > 0 ? std::min(wanted, most) : cores();
    return static_cast<int>(std::clamp(work / worthwhile, 1.0, static_cast<double>(asked)));
}

// Run task(thread, item) for every item in [0, items) on up to `threads` threads; `task` must not throw.
// Items are handed out in ascending order, so that a slow thread does not hold up the others.
template <class Task>
void for_each(std::int64_t items, int threads, Task task) {
    std::atomic<std::int64_t> next{0};
    const auto work = [&](int thread) {
        for (std::int64_t item = next++; item < items; item = next++) task(thread, item);
    };
    std::vector<std::thread> others;
    others.reserve(static_cast<std::size_t>(threads));
    try {
        for (int thread = 1; thread < threads && thread < items; ++thread) others.emplace_back(work, thread);
    } catch (const std::system_error&) {
        // No more threads to be had: those that started, and this one, do all of it.
    }
    work(0);
    for (std::thread& other : others) other.join();
}

}  // namespace madang
