// The candidates of a search: a sorted list of bounded length, best first. An entry is one number: the distance as an
// ordered integer, then the slot, then whether its links were followed; so entries compare as integers, and ties go to
// the lower slot.
#pragma once

#include "simd.hpp"
#include "types.hpp"

namespace madang::MADANG_ISA {

constexpr Entry no_entry = 0x7FFFFFFFFFFFFFFF;
constexpr std::int64_t pool_padding = 16;  // entries around the pool's own that it may read and write

inline Entry entry_of(float score, Slot slot) {
    const float distance = 0.0F - score;
    std::int32_t bits;
    __builtin_memcpy(&bits, &distance, sizeof bits);
    bits ^= (bits >> 31) & 0x7FFFFFFF;  // integers in the order of the floats
    return static_cast<Entry>((static_cast<std::uint64_t>(static_cast<std::uint32_t>(bits)) << 32)
                              | (static_cast<std::uint64_t>(slot) << 1));
}

// Insert into sorted entries [0, capacity): what falls out at the end is lost. Returns where it went. With vectors
// every place becomes min(own, max(left neighbour, new)): no branch, so none that is mispredicted.
inline std::int64_t insert_sorted(Entry* entries, std::int64_t capacity, Entry entry) {
#if MADANG_LANES >= 8
    std::int64_t before = 0;
#if MADANG_LANES == 16
    const __m512i added = _mm512_set1_epi64(entry);
    for (std::int64_t at = (capacity - 1) / 8 * 8; at >= 0; at -= 8) {
        const __m512i own = _mm512_loadu_si512(entries + at);
        const __m512i left = _mm512_loadu_si512(entries + at - 1);
        const auto below = static_cast<unsigned>(_mm512_cmplt_epi64_mask(own, added));
        _mm512_storeu_si512(entries + at, _mm512_maskz_min_epi64(0xFF, own, _mm512_maskz_max_epi64(0xFF, left, added)));
        if ((below & 1) != 0) return at + __builtin_popcount(below);
    }
#else
    const __m256i added = _mm256_set1_epi64x(entry);
    for (std::int64_t at = (capacity - 1) / 4 * 4; at >= 0; at -= 4) {
        const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(entries + at));
        const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(entries + at - 1));
        const __m256i above = _mm256_cmpgt_epi64(own, added);
        const __m256i higher = _mm256_blendv_epi8(added, left, _mm256_cmpgt_epi64(left, added));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(entries + at), _mm256_blendv_epi8(own, higher, above));
        const unsigned kept = ~static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(above))) & 0xFU;
        if ((kept & 1) != 0) return at + __builtin_popcount(kept);
    }
#endif
    return before;
#else
    std::int64_t at = capacity - 1;
    for (; at > 0 && entries[at - 1] > entry; --at) entries[at] = entries[at - 1];
    entries[at] = entry;
    return at;
#endif
}

class Pool {
public:
    Pool() = default;
    // `entries` has room for `capacity` and pool_padding around them, half of it before.
    Pool(Entry* entries, std::int64_t capacity) : entries_(entries), capacity_(capacity), least_(capacity), kept_(capacity) {
        entries[-1] = -no_entry - 1;
        for (std::int64_t i = 0; i < capacity + pool_padding / 2; ++i) entries[i] = no_entry;
    }

    // End early: see Stop. A candidate that would end the search if it came now need not be kept.
    void stop_at(const Stop& stop, float square) {
        k_ = stop.k;
        least_ = stop.least;
        kept_ = stop.kept;
        slack_ = stop.slack;
        square_ = square;
    }

    void narrow() {
        if (size_ <= kept_) return;
        const float last = score_of(entries_[kept_ - 1]), far = far_score();
        const float bar = last < far ? last : far;
        bar_ = bar > bar_ ? bar : bar_;
        while (size_ > kept_ && score_of(entries_[size_ - 1]) < far) entries_[--size_] = no_entry;
    }

    std::int64_t size() const { return size_; }
    Entry operator[](std::int64_t at) const { return entries_[at]; }
    float bar() const { return bar_; }  // scores below it need not be offered

    // Whether it is among the best, then it is in.
    bool offer(Entry entry) {
        if (entry >= entries_[capacity_ - 1]) return false;
        size_ += size_ < capacity_;
        const std::int64_t at = insert_sorted(entries_, size_, entry);
        cursor_ = at < cursor_ ? at : cursor_;
        if (size_ == capacity_) bar_ = score_of(entries_[capacity_ - 1]);
        return true;
    }

    // The best entry not followed yet, now marked; no_entry when all are.
    Entry next() {
        for (; cursor_ < size_; ++cursor_) {
            const Entry entry = entries_[cursor_];
            if ((entry & 1) == 0) {
                if (cursor_ >= least_ && size_ >= k_ && score_of(entry) < far_score()) return no_entry;
                entries_[cursor_++] = entry | 1;
                return entry;
            }
        }
        return no_entry;
    }

private:
    // The score of a squared distance of `slack` times that of the k-th.
    float far_score() const {
        if (slack_ == 0) return __builtin_inff();
        return 0.5F * (square_ - slack_ * (square_ - 2 * score_of(entries_[k_ - 1])));
    }

    Entry* entries_;
    std::int64_t capacity_;
    std::int64_t size_ = 0;
    std::int64_t cursor_ = 0;
    std::int64_t least_;
    std::int64_t kept_;
    std::int64_t k_ = 1;
    float slack_ = 0;
    float square_ = 0;
    float bar_ = -__builtin_inff();
};

}  // namespace madang::MADANG_ISA
