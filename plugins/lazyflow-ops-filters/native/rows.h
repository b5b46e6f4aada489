// Arithmetic on rows of pixels: weighted sums of rows, and the pointwise ends of filters.
#pragma once

#include "vector.h"

namespace {

// Several kernels that are applied to the same rows, each loaded once for all of them. They are centred on each other
// and the widest comes first. Each pixel of each result is summed from the first tap to the last with the same
// roundings, wherever it stands in a row and whatever other kernels are along.
constexpr int MOST_SHARED = 4;

struct Kernels {
    int count;
    const float* weights[MOST_SHARED];
    long radius[MOST_SHARED];
    float* out[MOST_SHARED];
};

// Where the rows of the widest kernel are: anywhere, or one row moved by a pixel at a time.
struct Anywhere {
    const float* const* rows;
    LF_INLINE_MEMBER const float* operator[](long j) const { return rows[j]; }
};
struct Moved {
    const float* first;
    LF_INLINE_MEMBER const float* operator[](long j) const { return first + j; }
};

// The taps from..to of the widest kernel, applied to the first M kernels. V is a vector or one float.
template <int M, int N, class V, class Rows>
LF_INLINE void add_taps(V (&sum)[MOST_SHARED][N], const Kernels& kernels, Rows rows, long from, long to, long x) {
    constexpr long lanes = sizeof(V) / sizeof(float);
    long first[M];  // of the taps of the widest kernel, the one where each begins
#pragma GCC unroll 4
    for (int m = 0; m < M; m++) first[m] = kernels.radius[0] - kernels.radius[m];
    for (long j = from; j < to; j++) {
        V pixels[N];
        const float* row = rows[j] + x;
#pragma GCC unroll 8
        for (int i = 0; i < N; i++) pixels[i] = load<V>(row + lanes * i);
#pragma GCC unroll 4
        for (int m = 0; m < M; m++) {
            const V w = kernels.weights[m][j - first[m]] - V{};
#pragma GCC unroll 8
            for (int i = 0; i < N; i++) sum[m][i] = fma(pixels[i], w, sum[m][i]);
        }
    }
}

// N vectors at once, so that enough independent sums are under way to hide the latency of one.
template <int M, int N, class V, class Rows>
LF_INLINE void weighted_block(const Kernels& k, Rows rows, long x) {
    constexpr long lanes = sizeof(V) / sizeof(float);
    V sum[MOST_SHARED][N] = {};
    const long last = 2 * k.radius[0] + 1;
    long from[MOST_SHARED] = {};  // the first tap of each kernel
    for (int m = 1; m < M; m++) from[m] = k.radius[0] - k.radius[m];
    add_taps<1, N, V>(sum, k, rows, 0, M > 1 ? from[1] : last, x);
    if (M > 1) add_taps<2, N, V>(sum, k, rows, from[1], M > 2 ? from[2] : last - from[1], x);
    if (M > 2) add_taps<3, N, V>(sum, k, rows, from[2], M > 3 ? from[3] : last - from[2], x);
    if (M > 3) add_taps<4, N, V>(sum, k, rows, from[3], last - from[3], x);
    if (M > 3) add_taps<3, N, V>(sum, k, rows, last - from[3], last - from[2], x);
    if (M > 2) add_taps<2, N, V>(sum, k, rows, last - from[2], last - from[1], x);
    if (M > 1) add_taps<1, N, V>(sum, k, rows, last - from[1], last, x);
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int i = 0; i < N; i++) store(k.out[m] + x + lanes * i, sum[m][i]);
}

template <int M, int N, class Rows>
void weighted_sums_of(const Kernels& k, Rows rows, long n) {
    long x = 0;
    for (; x + 8 * N <= n; x += 8 * N) weighted_block<M, N, v8f>(k, rows, x);
    for (; x + 8 <= n; x += 8) weighted_block<M, 1, v8f>(k, rows, x);
    if (x == n) return;
    if (n >= 8) {
        weighted_block<M, 1, v8f>(k, rows, n - 8);  // overlaps what is done already
        return;
    }
    for (; x < n; x++) weighted_block<M, 1, float>(k, rows, x);
}

// kernels.out[m][x] = sum over j of kernels.weights[m][j] * rows[j][x], for x < n.
template <class Rows>
void weighted_sums(const Kernels& kernels, Rows rows, long n) {
    switch (kernels.count) {
        case 1: weighted_sums_of<1, 8>(kernels, rows, n); break;
        case 2: weighted_sums_of<2, 4>(kernels, rows, n); break;
        case 3: weighted_sums_of<3, 4>(kernels, rows, n); break;
        default: weighted_sums_of<4, 2>(kernels, rows, n);
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
