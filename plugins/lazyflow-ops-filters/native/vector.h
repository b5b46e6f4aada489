// Vectors of floats and doubles, by the extension that gcc and clang share, and fused multiply-add.
//
// The same source is compiled once per instruction set. Everything here has internal linkage: a function
// compiled for AVX2 must never be the one that the linker keeps for the generic build.
#pragma once

#include <cstdint>
#include <cstring>

#if !defined(__GNUC__)
#error "vector types need gcc or clang"
#endif

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define LF_AVX2 1
#else
#define LF_AVX2 0
#endif

namespace {

typedef float v8f __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef double v4d __attribute__((vector_size(32)));
typedef int64_t v4l __attribute__((vector_size(32)));
typedef float v4f __attribute__((vector_size(16)));

// What a vector is made of.
template <class V>
struct Lane;
template <>
struct Lane<v8f> {
    typedef float type;
};
template <>
struct Lane<v4d> {
    typedef double type;
};

#define LF_INLINE static inline __attribute__((always_inline))
#define LF_INLINE_MEMBER inline __attribute__((always_inline))

template <class V>
LF_INLINE V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof(V));
    return v;
}

template <class V>
LF_INLINE void store(float* p, V v) {
    std::memcpy(p, &v, sizeof(V));
}

// a * b + c. Explicit, never left to the compiler: it may contract one loop and not its remainder, and then
// a pixel's last bit depends on where its block began. Without FMA in the processor it is two roundings.
LF_INLINE float fma(float a, float b, float c) {
#if LF_AVX2
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

LF_INLINE v8f fma(v8f a, v8f b, v8f c) {
#if LF_AVX2
    return (v8f)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

LF_INLINE v4d fma(v4d a, v4d b, v4d c) {
#if LF_AVX2
    return (v4d)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

LF_INLINE v8f root(v8f a) {
#if LF_AVX2
    return (v8f)_mm256_sqrt_ps((__m256)a);
#else
    for (int i = 0; i < 8; i++) a[i] = __builtin_sqrtf(a[i]);
    return a;
#endif
}

LF_INLINE v4d root(v4d a) {
#if LF_AVX2
    return (v4d)_mm256_sqrt_pd((__m256d)a);
#else
    for (int i = 0; i < 4; i++) a[i] = __builtin_sqrt(a[i]);
    return a;
#endif
}

// The second where they are not ordered.
LF_INLINE v8f larger(v8f a, v8f b) {
#if LF_AVX2
    return (v8f)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

LF_INLINE v8f smaller(v8f a, v8f b) {
#if LF_AVX2
    return (v8f)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return a < b ? a : b;
#endif
}

// Two halves as floats.
LF_INLINE v8f joined(v4d low, v4d high) {
    const v4f first = __builtin_convertvector(low, v4f), second = __builtin_convertvector(high, v4f);
#if LF_AVX2
    return (v8f)_mm256_insertf128_ps(_mm256_castps128_ps256((__m128)first), (__m128)second, 1);
#else
    const v4f halves[2] = {first, second};
    v8f v;
    std::memcpy(&v, halves, sizeof(v));
    return v;
#endif
}

// Let others see what was written past the caches.
LF_INLINE void drain() {
#if LF_AVX2
    _mm_sfence();
#endif
}

}  // namespace
