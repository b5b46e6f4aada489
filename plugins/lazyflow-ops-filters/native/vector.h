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

// What pixels and weights are until a result is made of them: floats, or doubles for images whose numbers floats
// cannot hold. The same source is compiled for both.
#ifdef LF_DOUBLE
typedef double real;
typedef v4d vec;
#else
typedef float real;
typedef v8f vec;
#endif
constexpr long LANES = sizeof(vec) / sizeof(real);

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

template <class V, class T>
LF_INLINE V load(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof(V));
    return v;
}

template <class V, class T>
LF_INLINE void store(T* p, V v) {
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

LF_INLINE v4d magnitude(v4d a) { return (v4d)((v4l)a & INT64_MAX); }
LF_INLINE v8f magnitude(v8f a) { return (v8f)((v8i)a & INT32_MAX); }

// Powers of two that bring numbers to about 1 and back, so that no digit is lost.
struct Scale {
    v8f to_one, back;
};

LF_INLINE Scale scale_of(v8f largest) {
    const v8i EXPONENT = 0x7f800000 - (v8i){}, ONE = 0x00800000 - (v8i){};
    v8i exponent = (v8i)largest & EXPONENT;
    exponent = exponent > 2 * ONE ? exponent : 2 * ONE;
    exponent = exponent < EXPONENT - ONE ? exponent : EXPONENT - ONE;  // infinity stays infinite
    return {(v8f)(EXPONENT - exponent), (v8f)(exponent - ONE)};
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

// Write pixels of a result.
LF_INLINE void put(float* p, v8f v) { store(p, v); }
LF_INLINE void put(float* p, v4d v) { store(p, __builtin_convertvector(v, v4f)); }

// Let others see what was written past the caches.
LF_INLINE void drain() {
#if LF_AVX2
    _mm_sfence();
#endif
}

}  // namespace
