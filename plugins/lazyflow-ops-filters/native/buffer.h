// Memory, and the arithmetic of how much of it.
#pragma once

#include <cstdlib>

#include "vector.h"

namespace {

constexpr long LINE = 64;  // bytes of a line of the cache
constexpr long LINE_FLOATS = LINE / sizeof(float);

inline long min_of(long a, long b) { return a < b ? a : b; }
inline long max_of(long a, long b) { return a > b ? a : b; }
inline long whole_vectors(long n) { return (n + 7) / 8 * 8; }
inline long whole_lines(long n) { return (n + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS; }
// A distance between rows, or planes, that does not put the same pixels of all of them into the same few places of
// the cache, as powers of two do.
inline long spread(long n) { return whole_lines(n) + (whole_lines(n) % 128 == 0 ? LINE_FLOATS : 0); }

// Memory for one call, kept from one step of it to the next; begins at a whole line of the cache. Not std::vector: its
// code would be shared between the builds by the linker, see vector.h, and would need the C++ library at run time.
template <class T>
struct Buffer {
    void* memory = nullptr;
    T* data = nullptr;
    long size = 0;

    Buffer() = default;
    explicit Buffer(long n) { reserve(n); }
    ~Buffer() { std::free(memory); }
    Buffer(const Buffer&) = delete;
    T& operator[](long i) { return data[i]; }
    explicit operator bool() const { return memory; }

    // Return whether there is room for n; what was in it is lost.
    bool reserve(long n) {
        if (n <= size) return true;
        std::free(memory);
        memory = std::malloc(n * sizeof(T) + LINE);
        const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + LINE - 1) / LINE * LINE;
        data = reinterpret_cast<T*>(begin);
        size = memory ? n : 0;
        return memory;
    }
    void fill(T value) {
        for (long i = 0; i < size; i++) data[i] = value;
    }
};

// Copy n pixels. By vectors as long as those that they were just written by: memcpy takes longer ones where there are
// any, and those wait until what was written has left the processor.
template <class T>
LF_INLINE void copy_pixels(T* out, const T* row, long n) {
    typedef T vector __attribute__((vector_size(32)));
    constexpr long lanes = sizeof(vector) / sizeof(T);
    long x = 0;
    for (; x + lanes <= n; x += lanes) store(out + x, load<vector>(row + x));
    for (; x < n; x++) out[x] = row[x];
}

// Copy n pixels to scratch, and zeros behind them up to a whole vector of floats.
LF_INLINE void copy_row(real* out, const real* row, long n) {
    if (n % 8)
        for (long x = 0; x < 8; x += LANES) store(out + n / 8 * 8 + x, vec{});
    copy_pixels(out, row, n);
}

}  // namespace
