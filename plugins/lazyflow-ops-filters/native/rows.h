// Arithmetic on rows of pixels: weighted sums of rows, and the pointwise ends of filters.
//
// All rows here are scratch: they begin at a whole line of the cache and are padded to whole vectors, so that there
// are no remainders.
#pragma once

#include <type_traits>

#include "vector.h"

namespace {

// Several kernels that are applied to the same rows, each loaded once for all of them. They are centred on each other
// and the widest comes first. Each pixel of each result is summed from the first tap to the last with the same
// roundings, wherever it stands in a row and whatever other kernels and results are along.
constexpr int MOST_SHARED = 4;

struct Kernels {
    int count;
    const float* weights[MOST_SHARED];
    long radius[MOST_SHARED];
};

// The rows that the widest kernel is applied to: anywhere, or one row moved by a pixel at a time.
struct Anywhere {
    const float* const* rows;
    LF_INLINE_MEMBER const float* operator[](long j) const { return rows[j]; }
    LF_INLINE_MEMBER Anywhere from(long j) const { return {rows + j}; }
};
struct Moved {
    const float* first;
    LF_INLINE_MEMBER const float* operator[](long j) const { return first + j; }
    LF_INLINE_MEMBER Moved from(long j) const { return {first + j}; }
};

// Where results go: row t of kernel m is out[m] + t * stride.
struct Rows {
    float* out[MOST_SHARED];
    long stride;
};

// M kernels of the same radius, known here if R is not 0; T results at once, so that a row is loaded once for all of
// them; N vectors, so that enough independent sums are under way to hide the latency of one.
template <int M, int T, int N, int R, class Source>
struct EvenBlock {
    const Kernels& kernels;
    const Source rows;
    const long x;
    v8f sum[M][T][N] = {};

    // Add row i to the results FROM..TO.
    template <int FROM, int TO>
    LF_INLINE_MEMBER void add(long i) {
        v8f pixels[N];
        const float* row = rows[i] + x;
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) pixels[n] = load<v8f>(row + 8 * n);
#pragma GCC unroll 4
        for (int t = FROM; t < TO; t++)
#pragma GCC unroll 4
            for (int m = 0; m < M; m++) {
                const v8f w = kernels.weights[m][i - t] - v8f{};
#pragma GCC unroll 8
                for (int n = 0; n < N; n++) sum[m][t][n] = fma(pixels[n], w, sum[m][t][n]);
            }
    }

    // The first rows belong to the first results only, the last rows to the last.
    template <int I>
    LF_INLINE_MEMBER void add_first() {
        if constexpr (I < T - 1) {
            add<0, I + 1>(I);
            add_first<I + 1>();
        }
    }
    template <int I>
    LF_INLINE_MEMBER void add_last(long last) {
        if constexpr (I < T) {
            add<I, T>(last + I);
            add_last<I + 1>(last);
        }
    }

    LF_INLINE_MEMBER void run(const Rows& out, long t0) {
        add_first<0>();
        if constexpr (R > 0) {
#pragma GCC unroll 8
            for (int i = T - 1; i <= 2 * R; i++) add<0, T>(i);
            add_last<1>(2 * R);
        } else {
            const long last = 2 * kernels.radius[0];
            for (long i = T - 1; i <= last; i++) add<0, T>(i);
            add_last<1>(last);
        }
#pragma GCC unroll 4
        for (int m = 0; m < M; m++)
#pragma GCC unroll 4
            for (int t = 0; t < T; t++)
#pragma GCC unroll 8
                for (int n = 0; n < N; n++) store(out.out[m] + (t0 + t) * out.stride + x + 8 * n, sum[m][t][n]);
    }
};

// The taps from..to of the widest kernel, applied to the first M kernels.
template <int M, int ALL, int N, class Source>
LF_INLINE void add_taps(v8f (&sum)[ALL][N], const Kernels& kernels, Source rows, long from, long to, long x) {
    long first[M];  // of the taps of the widest kernel, the one where each begins
#pragma GCC unroll 4
    for (int m = 0; m < M; m++) first[m] = kernels.radius[0] - kernels.radius[m];
    for (long j = from; j < to; j++) {
        v8f pixels[N];
        const float* row = rows[j] + x;
#pragma GCC unroll 8
        for (int i = 0; i < N; i++) pixels[i] = load<v8f>(row + 8 * i);
#pragma GCC unroll 4
        for (int m = 0; m < M; m++) {
            const v8f w = kernels.weights[m][j - first[m]] - v8f{};
#pragma GCC unroll 8
            for (int i = 0; i < N; i++) sum[m][i] = fma(pixels[i], w, sum[m][i]);
        }
    }
}

// M kernels of different radii: the outer taps of a wider one run alone.
template <int M, int N, class Source>
LF_INLINE void uneven_block(const Kernels& k, Source rows, const Rows& out, long t, long x) {
    v8f sum[M][N] = {};
    const long last = 2 * k.radius[0] + 1;
    long from[MOST_SHARED] = {};  // the first tap of each kernel
    for (int m = 1; m < M; m++) from[m] = k.radius[0] - k.radius[m];
    add_taps<1>(sum, k, rows, 0, from[1], x);
    add_taps<2>(sum, k, rows, from[1], M > 2 ? from[2] : last - from[1], x);
    if constexpr (M > 2) add_taps<3>(sum, k, rows, from[2], M > 3 ? from[3] : last - from[2], x);
    if constexpr (M > 3) add_taps<4>(sum, k, rows, from[3], last - from[3], x);
    if constexpr (M > 3) add_taps<3>(sum, k, rows, last - from[3], last - from[2], x);
    if constexpr (M > 2) add_taps<2>(sum, k, rows, last - from[2], last - from[1], x);
    add_taps<1>(sum, k, rows, last - from[1], last, x);
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int i = 0; i < N; i++) store(out.out[m] + t * out.stride + x + 8 * i, sum[m][i]);
}

// Radius of kernels that differ in it, and the largest radius that there is code of its own for.
constexpr int UNEVEN = -1, SHORT = 3;

template <int M, int T, int N, int R, class Source>
LF_INLINE void block(const Kernels& k, Source rows, const Rows& out, long t, long x) {
    if constexpr (R == UNEVEN)
        uneven_block<M, N>(k, rows, out, t, x);
    else
        EvenBlock<M, T, N, R, Source>{k, rows, x}.run(out, t);
}

template <int M, int T, int N, int R, class Source>
LF_INLINE void across(const Kernels& k, Source rows, const Rows& out, long t, long n) {
    rows = rows.from(t);
    long x = 0;
    for (; x + 8 * N <= n; x += 8 * N) block<M, T, N, R>(k, rows, out, t, x);
    if constexpr (N > 4)
        if (x + 32 <= n) block<M, T, 4, R>(k, rows, out, t, x), x += 32;
    if constexpr (N > 2)
        if (x + 16 <= n) block<M, T, 2, R>(k, rows, out, t, x), x += 16;
    if constexpr (N > 1)
        if (x + 8 <= n) block<M, T, 1, R>(k, rows, out, t, x);
}

template <int M, int T, int N, int R, class Source>
void summation(const Kernels& k, Source rows, const Rows& out, long count, long n) {
    long t = 0;
    for (; t + T <= count; t += T) across<M, T, N, R>(k, rows, out, t, n);
    if constexpr (T > 1)
        for (; t < count; t++) across<M, 1, 2 * N, R>(k, rows, out, t, n);
}

// out[m][t][x] = sum over j of weights[m][j] * rows[t + j][x], for t < count and x < n, n a multiple of 8.
template <class Source>
using Summation = void (*)(const Kernels&, Source, const Rows& out, long count, long n);

// Of T results at once and N vectors, for M kernels: as many sums as there are registers for, beside what is added.
template <int M, class Source>
Summation<Source> summation_of(long radius) {
    constexpr bool apart = std::is_same<Source, Anywhere>::value;
    constexpr int T = !apart ? 1 : M == 1 ? 4 : M == 2 ? 2 : 1;
    constexpr int N = (M == 1 ? 8 : M == 4 ? 2 : 4) / T;
    switch (radius) {
        case UNEVEN:
            if constexpr (M > 1) return summation<M, 1, M == 4 ? 2 : 4, UNEVEN, Source>;
            break;
        case 0: return summation<M, 1, N, 0, Source>;
        case 1: return summation<M, T, N, 1, Source>;
        case 2: return summation<M, T, N, 2, Source>;
        case 3: return summation<M, T, N, 3, Source>;
    }
    return summation<M, T, N, 0, Source>;
}

// The fastest for these kernels.
template <class Source>
Summation<Source> summation_for(const Kernels& k) {
    long radius = k.radius[0];
    for (int m = 1; m < k.count; m++)
        if (k.radius[m] != radius) radius = UNEVEN;
    switch (k.count) {
        case 1: return summation_of<1, Source>(radius);
        case 2: return summation_of<2, Source>(radius);
        case 3: return summation_of<3, Source>(radius);
        default: return summation_of<4, Source>(radius);
    }
}

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
