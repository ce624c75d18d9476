// Scores of one needle against the records of a table, four at a time. A record is compared as bytes (a code holds
// the value over the vector's own scale, plus 128) or as floats.
//
// Bytes are multiplied with the widest instruction there is for them: VNNI with AVX-512; two multiplications with
// AVX2, where a sign moves from the needle to the code first, so that the pairwise sums of 127 * 127 fit 16 bits.
#pragma once

#include "simd.hpp"
#include "types.hpp"

namespace madang::MADANG_ISA {

constexpr std::int64_t line_bytes = 64;

typedef float Four __attribute__((vector_size(16)));
typedef std::int32_t FourInts __attribute__((vector_size(16)));
typedef std::uint32_t FourUnsigned __attribute__((vector_size(16)));

inline std::int64_t lines(std::int64_t bytes) { return (bytes + line_bytes - 1) / line_bytes; }

// sums[j] of 4 rows of codes and a needle of `bytes` bytes. The needle is zero up to a whole number of lines, up to
// where the rows are read.
#if MADANG_LANES == 16

inline void dot_codes(const std::uint8_t* const* rows, const std::int8_t* needle, std::int64_t bytes,
                      std::int32_t* sums) {
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (std::int64_t i = 0; i < bytes; i += line_bytes) {
        const __m512i q = _mm512_load_si512(needle + i);
        a = _mm512_dpbusd_epi32(a, _mm512_loadu_si512(rows[0] + i), q);
        b = _mm512_dpbusd_epi32(b, _mm512_loadu_si512(rows[1] + i), q);
        c = _mm512_dpbusd_epi32(c, _mm512_loadu_si512(rows[2] + i), q);
        d = _mm512_dpbusd_epi32(d, _mm512_loadu_si512(rows[3] + i), q);
    }
    store_sums(sums, a, b, c, d);
}

#elif MADANG_LANES == 8

inline void dot_codes(const std::uint8_t* const* rows, const std::int8_t* needle, std::int64_t bytes,
                      std::int32_t* sums) {
    const __m256i ones = _mm256_set1_epi16(1), sign = _mm256_set1_epi8(static_cast<char>(0x80));
    __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (std::int64_t i = 0; i < bytes; i += 32) {
        const __m256i q = _mm256_load_si256(reinterpret_cast<const __m256i*>(needle + i));
        const __m256i size = _mm256_abs_epi8(q);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[j] + i));
            const __m256i value = _mm256_sign_epi8(_mm256_xor_si256(code, sign), q);
            sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(_mm256_maddubs_epi16(size, value), ones));
        }
    }
    store_sums(sums, sum[0], sum[1], sum[2], sum[3]);
}

#else

inline void dot_codes(const std::uint8_t* const* rows, const std::int8_t* needle, std::int64_t bytes,
                      std::int32_t* sums) {
    for (int j = 0; j < 4; ++j) {
        const std::uint8_t* row = rows[j];
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < bytes; ++i)  // 16-bit factors: compilers know an instruction for their sums
            sum += static_cast<std::int16_t>(row[i] - 128) * static_cast<std::int16_t>(needle[i]);
        sums[j] = sum;
    }
}

#endif

// Whether dot_codes sums (code - 128) rather than the code, from which Needle::offset is still to be subtracted.
constexpr bool codes_are_signed = MADANG_LANES < 16;

// The same with half a byte per dimension; `bytes` are those of a row, and the needle has two for each of them.
#if MADANG_LANES == 16

inline void dot_nibbles(const std::uint8_t* const* rows, const std::int8_t* needle, std::int64_t bytes,
                        std::int32_t* sums) {
    const __m512i low = _mm512_set1_epi8(15);
    __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (std::int64_t i = 0; i < bytes; i += line_bytes) {
        const __m512i q = _mm512_load_si512(needle + 2 * i), p = _mm512_load_si512(needle + 2 * i + line_bytes);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const __m512i both = _mm512_loadu_si512(rows[j] + i);
            sum[j] = _mm512_dpbusd_epi32(sum[j], _mm512_and_si512(both, low), q);
            sum[j] = _mm512_dpbusd_epi32(sum[j], _mm512_and_si512(_mm512_srli_epi16(both, 4), low), p);
        }
    }
    store_sums(sums, sum[0], sum[1], sum[2], sum[3]);
}

#elif MADANG_LANES == 8

inline void dot_nibbles(const std::uint8_t* const* rows, const std::int8_t* needle, std::int64_t bytes,
                        std::int32_t* sums) {
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (std::int64_t i = 0; i < bytes; i += line_bytes) {
        __m256i q[4];
#pragma GCC unroll 4
        for (int l = 0; l < 4; ++l) q[l] = _mm256_load_si256(reinterpret_cast<const __m256i*>(needle + 2 * i + 32 * l));
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[j] + i));
            const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[j] + i + 32));
            __m256i pairs = _mm256_maddubs_epi16(_mm256_and_si256(a, low), q[0]);  // 4 times 2 * 15 * 127 fit 16 bits
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(_mm256_and_si256(b, low), q[1]));
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(a, 4), low), q[2]));
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(b, 4), low), q[3]));
            sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(pairs, ones));
        }
    }
    store_sums(sums, sum[0], sum[1], sum[2], sum[3]);
}

#else

inline void dot_nibbles(const std::uint8_t* const* rows, const std::int8_t* needle, std::int64_t bytes,
                        std::int32_t* sums) {
    for (int j = 0; j < 4; ++j) {
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < bytes; i += line_bytes) {
            const std::uint8_t* row = rows[j] + i;
            const std::int8_t* q = needle + 2 * i;
            for (std::int64_t l = 0; l < line_bytes; ++l)
                sum += static_cast<std::int16_t>(row[l] & 15) * static_cast<std::int16_t>(q[l]);
            for (std::int64_t l = 0; l < line_bytes; ++l)
                sum += static_cast<std::int16_t>(row[l] >> 4) * static_cast<std::int16_t>(q[l + line_bytes]);
        }
        sums[j] = sum;
    }
}

#endif

// The records of a table seen from one needle.
template <Code code, bool biased>
class Rows {
public:
    Rows() = default;
    Rows(const Table& table, const Needle& needle)
        : table_(table), needle_(needle),
          bytes_(code == Code::bytes ? table.dim
                 : code == Code::nibbles ? lines((table.dim + 1) / 2) * line_bytes  // a needle is whole lines
                 : table.dim * static_cast<std::int64_t>(sizeof(float))) {}

    void prefetch(Slot slot) const {
        const std::uint8_t* record = table_.records + slot * table_.stride;
        for (std::int64_t i = 0; i < bytes_; i += line_bytes) __builtin_prefetch(record + i);
        if constexpr (code != Code::floats || biased) __builtin_prefetch(table_.facts + 2 * std::int64_t{slot});
    }

    void prefetch_links(Slot slot, std::int64_t bytes) const {
        const std::uint8_t* links = table_.records + slot * table_.stride + table_.links_at;
        for (std::int64_t i = 0; i < bytes; i += line_bytes) __builtin_prefetch(links + i);
    }

    // Scores of four slots.
    void score(const Slot* slots, float* scores) const {
        if constexpr (code != Code::floats) {
            const std::uint8_t* rows[4];
            for (int j = 0; j < 4; ++j) rows[j] = table_.records + slots[j] * table_.stride;
            alignas(16) std::int32_t sums[4];
            const auto* needle = static_cast<const std::int8_t*>(needle_.values);
            if constexpr (code == Code::bytes) dot_codes(rows, needle, bytes_, sums);
            else dot_nibbles(rows, needle, bytes_, sums);
            const std::int32_t offset = code == Code::bytes && codes_are_signed ? 0 : needle_.offset;
            FourUnsigned sum;
            __builtin_memcpy(&sum, sums, sizeof sum);
            const Four scale{fact(slots[0])[0], fact(slots[1])[0], fact(slots[2])[0], fact(slots[3])[0]};
            // Both may have wrapped around, their difference fits: see the limit of dim in bind_graph.cpp.
            const auto difference = reinterpret_cast<FourInts>(sum - static_cast<std::uint32_t>(offset));
            const Four score = __builtin_convertvector(difference, Four) * (scale * needle_.scale);
            __builtin_memcpy(scores, &score, sizeof score);
        } else {
            const float* rows[4];
            for (int j = 0; j < 4; ++j)
                rows[j] = reinterpret_cast<const float*>(table_.records + slots[j] * table_.stride);
            const float* query = static_cast<const float*>(needle_.values);
            Vec a = zero(), b = zero(), c = zero(), d = zero();
            for (std::int64_t i = 0; i < table_.dim; i += lanes) {  // records are padded with zeros
                const Vec q = load(query + i);
                a = multiply_add(q, load(rows[0] + i), a);
                b = multiply_add(q, load(rows[1] + i), b);
                c = multiply_add(q, load(rows[2] + i), c);
                d = multiply_add(q, load(rows[3] + i), d);
            }
            store_sums(scores, a, b, c, d);
        }
        if constexpr (biased)
            for (int j = 0; j < 4; ++j) scores[j] += needle_.weight * fact(slots[j])[1];
    }

private:
    const float* fact(Slot slot) const { return table_.facts + 2 * std::int64_t{slot}; }

    Table table_;
    Needle needle_;
    std::int64_t bytes_;
};

}  // namespace madang::MADANG_ISA
