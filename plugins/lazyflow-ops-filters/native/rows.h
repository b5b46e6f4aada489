// Arithmetic on rows of pixels: weighted sums of rows, and the pointwise ends of filters.
#pragma once

#include "vector.h"

namespace {

// N vectors at once, so that enough independent sums are under way to hide the latency of one.
template <int N>
LF_INLINE void weighted_block(const float* const* rows, const float* weights, long taps, float* out, long x) {
    v8f sum[N];
    v8f w = weights[0] - (v8f){};
#pragma GCC unroll 8
    for (int i = 0; i < N; i++) sum[i] = load<v8f>(rows[0] + x + 8 * i) * w;
    for (long j = 1; j < taps; j++) {
        const float* row = rows[j] + x;
        w = weights[j] - (v8f){};
#pragma GCC unroll 8
        for (int i = 0; i < N; i++) sum[i] = fma(load<v8f>(row + 8 * i), w, sum[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; i++) store(out + x + 8 * i, sum[i]);
}

// out[x] = sum over j of weights[j] * rows[j][x], for x < n. Every pixel sums in the same order with the same
// roundings, wherever it stands in a row.
void weighted_sum(const float* const* rows, const float* weights, long taps, float* out, long n) {
    long x = 0;
    for (; x + 64 <= n; x += 64) weighted_block<8>(rows, weights, taps, out, x);
    if (x + 32 <= n) {
        weighted_block<4>(rows, weights, taps, out, x);
        x += 32;
    }
    for (; x + 8 <= n; x += 8) weighted_block<1>(rows, weights, taps, out, x);
    if (x == n) return;
    if (n >= 8) {
        weighted_block<1>(rows, weights, taps, out, n - 8);  // overlaps what is done already
        return;
    }
    for (; x < n; x++) {
        float sum = rows[0][x] * weights[0];
        for (long j = 1; j < taps; j++) sum = fma(rows[j][x], weights[j], sum);
        out[x] = sum;
    }
}

// The rows below are scratch: padded to whole vectors, so that there are no remainders.

void row_difference(const float* const* rows, float* out, long n) {
    for (long x = 0; x < n; x += 8) store(out + x, load<v8f>(rows[0] + x) - load<v8f>(rows[1] + x));
}

void row_sum(const float* const* rows, long count, float* out, long n) {
    for (long x = 0; x < n; x += 8) {
        v8f sum = load<v8f>(rows[0] + x);
        for (long i = 1; i < count; i++) sum += load<v8f>(rows[i] + x);
        store(out + x, sum);
    }
}

void row_norm(const float* const* rows, long count, float* out, long n) {
    for (long x = 0; x < n; x += 8) {
        v8f v = load<v8f>(rows[0] + x);
        v8f sum = v * v;
        for (long i = 1; i < count; i++) {
            v = load<v8f>(rows[i] + x);
            sum = fma(v, v, sum);
        }
        store(out + x, root(sum));
    }
}

}  // namespace
