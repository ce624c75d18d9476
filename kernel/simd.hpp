// The few vector operations the kernel is made of, once per instruction set. MADANG_ISA is the namespace and
// MADANG_LANES the number of floats in a register: 16 for AVX-512, 8 for AVX2 with FMA, 4 for everything else
// (SSE2 and NEON, through the vector extension of gcc and clang).
#pragma once

#include <cstdint>

#include "half.hpp"

#if MADANG_LANES > 4
#include <immintrin.h>
#endif

namespace madang::MADANG_ISA {

constexpr std::int64_t lanes = MADANG_LANES;

#if MADANG_LANES == 16

using Vec = __m512;
// Queries times rows held in registers at once: 6 x 4 sums, 6 queries and 1 row fit the 32 registers.
constexpr int tile_queries = 6;

inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline Vec load_first(const float* p, std::int64_t n) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << n) - 1U), p);
}
inline Vec load(const Half* p) { return _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vec load_first(const Half* p, std::int64_t n) {
    return _mm512_maskz_cvtph_ps(0xFFFF, _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1U << n) - 1U), p));
}
inline Vec subtract(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec multiply_add(Vec a, Vec b, Vec sum) { return _mm512_fmadd_ps(a, b, sum); }
inline bool any_not_below(const float* scores, float bar) {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(scores), _mm512_set1_ps(bar), _CMP_NLT_UQ) != 0;
}
// One bit for each of `lanes` scores: whether it is at least `bar`.
inline unsigned at_least(const float* scores, float bar) {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(scores), _mm512_set1_ps(bar), _CMP_GE_OQ);
}

// The four sums of a, b, c and d. Each input goes through the same additions whatever its place, so a score
// does not depend on where in a tile its pair sat.
inline void store_sums(float* out, Vec a, Vec b, Vec c, Vec d) {
    // The masked forms with all lanes on are the plain ones, without the false "uninitialized" warnings of gcc 12.
    constexpr __mmask16 all = 0xFFFF;
    constexpr __mmask8 half = 0xFF;
    const Vec ab = _mm512_add_ps(_mm512_maskz_unpacklo_ps(all, a, b), _mm512_maskz_unpackhi_ps(all, a, b));
    const Vec cd = _mm512_add_ps(_mm512_maskz_unpacklo_ps(all, c, d), _mm512_maskz_unpackhi_ps(all, c, d));
    const Vec abcd = _mm512_add_ps(_mm512_maskz_shuffle_ps(all, ab, cd, _MM_SHUFFLE(1, 0, 1, 0)),
                                   _mm512_maskz_shuffle_ps(all, ab, cd, _MM_SHUFFLE(3, 2, 3, 2)));
    const __m256 sum = _mm256_add_ps(_mm512_maskz_extractf32x8_ps(half, abcd, 0),
                                     _mm512_maskz_extractf32x8_ps(half, abcd, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1)));
}

inline void store_sums(std::int32_t* out, __m512i a, __m512i b, __m512i c, __m512i d) {
    constexpr __mmask16 all = 0xFFFF;
    const __m512i ab = _mm512_add_epi32(_mm512_maskz_unpacklo_epi32(all, a, b), _mm512_maskz_unpackhi_epi32(all, a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_maskz_unpacklo_epi32(all, c, d), _mm512_maskz_unpackhi_epi32(all, c, d));
    const __m512i abcd = _mm512_add_epi32(_mm512_maskz_unpacklo_epi64(0xFF, ab, cd),
                                          _mm512_maskz_unpackhi_epi64(0xFF, ab, cd));
    const __m256i sum = _mm256_add_epi32(_mm512_maskz_extracti64x4_epi64(0xF, abcd, 0),
                                         _mm512_maskz_extracti64x4_epi64(0xF, abcd, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1)));
}

#elif MADANG_LANES == 8

using Vec = __m256;
constexpr int tile_queries = 3;  // 3 x 4 sums, 3 queries and 1 row are exactly the 16 registers

inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline Vec load_first(const float* p, std::int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
}
inline Vec load(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Vec load_first(const Half* p, std::int64_t n) {
    Half first[8] = {};
    __builtin_memcpy(first, p, static_cast<std::size_t>(n) * sizeof(Half));
    return load(first);
}
inline Vec subtract(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec multiply_add(Vec a, Vec b, Vec sum) { return _mm256_fmadd_ps(a, b, sum); }
inline bool any_not_below(const float* scores, float bar) {
    return _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(scores), _mm256_set1_ps(bar), _CMP_NLT_UQ)) != 0;
}
inline unsigned at_least(const float* scores, float bar) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(scores), _mm256_set1_ps(bar), _CMP_GE_OQ)));
}

inline void store_sums(float* out, Vec a, Vec b, Vec c, Vec d) {  // see above
    const Vec ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const Vec cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const Vec abcd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0)),
                                   _mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2)));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
}

inline void store_sums(std::int32_t* out, __m256i a, __m256i b, __m256i c, __m256i d) {
    const __m256i abcd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256(abcd, 1)));
}

#else

typedef float Vec __attribute__((vector_size(16)));
#if defined(__aarch64__)
constexpr int tile_queries = 4;
#else
constexpr int tile_queries = 2;  // without FMA every product needs a register of its own
#endif

inline Vec zero() { return Vec{0, 0, 0, 0}; }
inline Vec load(const float* p) {
    Vec v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
inline Vec load_first(const float* p, std::int64_t n) {
    return Vec{n > 0 ? p[0] : 0, n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, n > 3 ? p[3] : 0};
}
inline Vec load(const Half* p) { return Vec{float_of(p[0]), float_of(p[1]), float_of(p[2]), float_of(p[3])}; }
inline Vec load_first(const Half* p, std::int64_t n) {
    return Vec{n > 0 ? float_of(p[0]) : 0, n > 1 ? float_of(p[1]) : 0, n > 2 ? float_of(p[2]) : 0, n > 3 ? float_of(p[3]) : 0};
}
inline Vec subtract(Vec a, Vec b) { return a - b; }
inline Vec multiply_add(Vec a, Vec b, Vec sum) { return sum + a * b; }
inline bool any_not_below(const float* scores, float bar) {
    return !(scores[0] < bar) | !(scores[1] < bar) | !(scores[2] < bar) | !(scores[3] < bar);
}
inline unsigned at_least(const float* scores, float bar) {
    unsigned bits = 0;
    for (unsigned i = 0; i < 4; ++i) bits |= static_cast<unsigned>(scores[i] >= bar) << i;
    return bits;
}

inline void store_sums(float* out, Vec a, Vec b, Vec c, Vec d) {  // see above
    const Vec ab = Vec{a[0], b[0], a[1], b[1]} + Vec{a[2], b[2], a[3], b[3]};
    const Vec cd = Vec{c[0], d[0], c[1], d[1]} + Vec{c[2], d[2], c[3], d[3]};
    const Vec sums = Vec{ab[0], ab[1], cd[0], cd[1]} + Vec{ab[2], ab[3], cd[2], cd[3]};
    __builtin_memcpy(out, &sums, sizeof sums);
}

#endif

}  // namespace madang::MADANG_ISA
