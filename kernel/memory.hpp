// Memory that grows: aligned to cache lines, of its own or borrowed (a mapped file) until it has to grow.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace madang {

// Of whole cache lines; large memory on huge pages where the system has them, since a search reads it all over, and for
// most of what it reads the processor would have to look up the page first.
inline void* allocate(std::size_t bytes) {
    constexpr std::size_t huge = std::size_t{2} << 20;
    if (bytes < 4 * huge) return std::aligned_alloc(64, bytes);
    const std::size_t whole = (bytes + huge - 1) / huge * huge;
    void* made = std::aligned_alloc(huge, whole);
#ifdef MADV_HUGEPAGE
    if (made != nullptr) madvise(made, whole, MADV_HUGEPAGE);  // a wish: it may be refused
#endif
    return made;
}

template <class T>
class Buffer {
    static_assert(std::is_trivially_copyable_v<T>);

public:
    Buffer() = default;
    explicit Buffer(std::int64_t size) { resize(size); }
    // What `owner` keeps alive, and what may be written to.
    Buffer(T* data, std::int64_t size, std::shared_ptr<void> owner) : data_(data), size_(size), owner_(std::move(owner)) {}

    // Keeps what fits. What is new is uninitialised; a cache line behind the end may be read. Throws std::bad_alloc.
    void resize(std::int64_t size) {
        constexpr std::size_t line = 64;
        const std::size_t bytes = (static_cast<std::size_t>(size) * sizeof(T) + 2 * line - 1) / line * line;
        auto* made = static_cast<T*>(allocate(bytes));
        if (made == nullptr) throw std::bad_alloc();
        std::shared_ptr<void> owner(made, [](void* memory) { std::free(memory); });
        const std::int64_t kept = std::min(size, size_);
        if (kept > 0) std::memcpy(made, data_, static_cast<std::size_t>(kept) * sizeof(T));
        const std::size_t filled = static_cast<std::size_t>(size) * sizeof(T);
        std::memset(reinterpret_cast<char*>(made) + filled, 0, bytes - filled);
        data_ = made;
        size_ = size;
        owner_ = std::move(owner);
    }

    // At least `size`, with contents that mean nothing.
    void fit(std::int64_t size) {
        if (size <= size_) return;
        *this = Buffer();
        resize(size);
    }

    T* get() const { return data_; }
    T& operator[](std::int64_t i) const { return data_[i]; }
    std::int64_t size() const { return size_; }

private:
    T* data_ = nullptr;
    std::int64_t size_ = 0;
    std::shared_ptr<void> owner_;
};

}  // namespace madang
