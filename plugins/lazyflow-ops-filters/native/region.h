// Regions along an axis, what lies beyond an image, and how a call ends.
#pragma once

#include "buffer.h"
#include "filters.h"

namespace {

struct Range {
    long start, stop;
    long size() const { return stop - start; }
    Range grown(long by, long n) const { return {max_of(0, start - by), min_of(n, stop + by)}; }
};

// The pixel that stands for position i of an axis of n pixels; -1 for a zero.
inline long beyond(long i, long n, int border) {
    if (i >= 0 && i < n) return i;
    if (border == LF_ZERO) return -1;
    if (border == LF_NEAREST || n == 1) return i < 0 ? 0 : n - 1;
    const long period = border == LF_MIRROR ? 2 * (n - 1) : 2 * n;
    i %= period;
    if (i < 0) i += period;
    if (border == LF_MIRROR) return i < n ? i : period - i;
    return i < n ? i : period - 1 - i;
}

// Whether the caller wants the call to end. Looked at per band of rows; another thread writes it at any moment.
LF_INLINE bool is_set(const uint8_t* stop) { return __atomic_load_n(stop, __ATOMIC_RELAXED); }

}  // namespace
