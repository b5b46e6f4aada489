// Arithmetic on rows of pixels: weighted sums of rows, and the pointwise ends of filters.
//
// All rows here are scratch: they begin at a whole line of the cache and are padded to whole vectors, so that there
// are no remainders.
#pragma once

#include <type_traits>

#include "vector.h"

namespace {

// What the weights of a kernel are on both sides of its centre: equal, opposite, or neither.
enum Parity { EVEN, ODD, NEITHER };

Parity parity_of(const real* weights, long radius) {
    bool even = true, odd = weights[radius] == 0;
    for (long j = 0; j < radius; j++) {
        even = even && weights[j] == weights[2 * radius - j];
        odd = odd && weights[j] == -weights[2 * radius - j];
    }
    return even ? EVEN : odd ? ODD : NEITHER;
}

// The largest radius of a short kernel: there is code of its own for each.
constexpr long SHORT = 3;

// Several kernels that are applied to the same rows, each loaded once for all of them. They are centred on each other.
//
// Short ones have the same radius and are summed from the first tap to the last. Long ones are of one parity, and the
// widest comes first: two pixels of the same weight are added, or subtracted, before they are weighted, from the ends
// of the kernel to its centre. That is half as many roundings, and what is constant has no gradient to the last bit.
// Each pixel of each result is summed in this order with the same roundings, wherever it stands and whatever other
// kernels are along.
constexpr int MOST_SHARED = 4;

struct Kernels {
    int count;
    Parity parity;
    const real* weights[MOST_SHARED];
    long radius[MOST_SHARED];
};

// The rows that the widest kernel is applied to: anywhere, or one row moved by a pixel at a time.
struct Anywhere {
    const real* const* rows;
    LF_INLINE_MEMBER const real* operator[](long j) const { return rows[j]; }
    LF_INLINE_MEMBER Anywhere from(long j) const { return {rows + j}; }
};
struct Moved {
    const real* first;
    LF_INLINE_MEMBER const real* operator[](long j) const { return first + j; }
    LF_INLINE_MEMBER Moved from(long j) const { return {first + j}; }
};

// Where results go: row t of kernel m is out[m] + t * stride.
struct Rows {
    real* out[MOST_SHARED];
    long stride;
};

// M kernels of radius R; T results at once, so that a row is loaded once for all of them.
template <int M, int T, int N, int R, class Source>
struct ShortBlock {
    const Kernels& kernels;
    const Source rows;
    const long x;
    vec sum[M][T][N] = {};

    // Add row i to the results FROM..TO.
    template <int FROM, int TO>
    LF_INLINE_MEMBER void add(long i) {
        vec pixels[N];
        const real* row = rows[i] + x;
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) pixels[n] = load<vec>(row + LANES * n);
#pragma GCC unroll 4
        for (int t = FROM; t < TO; t++)
#pragma GCC unroll 4
            for (int m = 0; m < M; m++) {
                const vec w = kernels.weights[m][i - t] - vec{};
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
#pragma GCC unroll 8
        for (int i = T - 1; i <= 2 * R; i++) add<0, T>(i);
        add_last<1>(2 * R);
#pragma GCC unroll 4
        for (int m = 0; m < M; m++)
#pragma GCC unroll 4
            for (int t = 0; t < T; t++)
#pragma GCC unroll 8
                for (int n = 0; n < N; n++) store(out.out[m] + (t0 + t) * out.stride + x + LANES * n, sum[m][t][n]);
    }
};

// N vectors of the results of M kernels, so that enough independent sums are under way to hide the latency of one.
template <int M, int N, Parity parity, class Source>
struct Block {
    const Kernels& kernels;
    const Source rows;
    const long x;
    vec sum[M][N] = {};

    // Add tap j of the widest kernel, and the opposite one if there is one, to the results of the first COUNT kernels.
    template <int COUNT, bool paired>
    LF_INLINE_MEMBER void add(long j, long opposite = 0) {
        vec w[COUNT];
#pragma GCC unroll 4
        for (int m = 0; m < COUNT; m++) w[m] = kernels.weights[m][j - kernels.radius[0] + kernels.radius[m]] - vec{};
        const real *row = rows[j] + x, *other = rows[opposite] + x;
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) {
            vec pixels = load<vec>(row + LANES * n);
            if constexpr (paired) {
                const vec others = load<vec>(other + LANES * n);
                pixels = parity == ODD ? pixels - others : pixels + others;
            }
#pragma GCC unroll 4
            for (int m = 0; m < COUNT; m++) sum[m][n] = fma(pixels, w[m], sum[m][n]);
        }
    }
    template <int COUNT>
    LF_INLINE_MEMBER void add_pairs(long from, long to, long last) {
        for (long j = from; j < to; j++) add<COUNT, true>(j, last - j);
    }

    LF_INLINE_MEMBER void run() {
        const long radius = kernels.radius[0];
        if constexpr (parity == NEITHER) {
            for (long j = 0; j <= 2 * radius; j++) add<M, false>(j);
            return;
        }
        // The outer taps of a wider kernel run alone.
        long from[MOST_SHARED + 1] = {};
        for (int m = 1; m <= M; m++) from[m] = m < M ? radius - kernels.radius[m] : radius;
        add_pairs<1>(0, from[1], 2 * radius);
        if constexpr (M > 1) add_pairs<2>(from[1], from[2], 2 * radius);
        if constexpr (M > 2) add_pairs<3>(from[2], from[3], 2 * radius);
        if constexpr (M > 3) add_pairs<4>(from[3], from[4], 2 * radius);
        add<M, false>(radius);
    }

    LF_INLINE_MEMBER void write(const Rows& out, long t) const {
#pragma GCC unroll 4
        for (int m = 0; m < M; m++)
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) store(out.out[m] + t * out.stride + x + LANES * n, sum[m][n]);
    }
};

// Four results of one kernel: while taps go from the ends to the centre, three of four rows stay for the next one.
template <Parity parity>
LF_INLINE void four_results(const Kernels& k, Anywhere rows, const Rows& out, long t, long x) {
    const real* const weights = k.weights[0];
    const long radius = k.radius[0], last = 2 * radius;
    vec sum[4] = {}, low[4] = {}, high[4] = {};
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        low[i] = load<vec>(rows[t + i] + x);
        high[i + 1] = load<vec>(rows[t + last + i + 1] + x);
    }
    // Row t + j + i is low[(j + i) % 4], row t + last - j + i is high[(i - j) mod 4].
    const auto tap = [&](long j, int turn) __attribute__((always_inline)) {
        low[(turn + 3) % 4] = load<vec>(rows[t + j + 3] + x);
        high[(4 - turn) % 4] = load<vec>(rows[t + last - j] + x);
        const vec w = weights[j] - vec{};
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const vec a = low[(turn + i) % 4], b = high[(i - turn + 4) % 4];
            sum[i] = fma(parity == ODD ? a - b : a + b, w, sum[i]);
        }
    };
    long j = 0;
    for (; j + 4 <= radius; j += 4) {
        tap(j, 0);
        tap(j + 1, 1);
        tap(j + 2, 2);
        tap(j + 3, 3);
    }
    if (j < radius) tap(j, 0);
    if (j + 1 < radius) tap(j + 1, 1);
    if (j + 2 < radius) tap(j + 2, 2);
    const vec center = weights[radius] - vec{};
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        store(out.out[0] + (t + i) * out.stride + x, fma(load<vec>(rows[t + radius + i] + x), center, sum[i]));
}

// Pieces of rows of N vectors at once; what the results of different rows have in common stays in the first cache.
template <int M, int N, Parity parity, class Source>
LF_INLINE void long_blocks(const Kernels& k, Source rows, const Rows& out, long count, long x, long n) {
    for (; x + LANES * N <= n; x += LANES * N) {
        long t = 0;
        if constexpr (M == 1 && parity != NEITHER && std::is_same<Source, Anywhere>::value)
            for (; t + 4 <= count; t += 4)
                for (long i = 0; i < LANES * N; i += LANES) four_results<parity>(k, rows, out, t, x + i);
        for (; t < count; t++) {
            Block<M, N, parity, Source> block{k, rows.from(t), x};
            block.run();
            block.write(out, t);
        }
    }
    if constexpr (N > 1) long_blocks<M, N / 2, parity>(k, rows, out, count, x, n);
}

template <int M, int T, int N, int R, class Source>
LF_INLINE void short_blocks(const Kernels& k, Source rows, const Rows& out, long t, long x, long n) {
    for (; x + LANES * N <= n; x += LANES * N) ShortBlock<M, T, N, R, Source>{k, rows.from(t), x}.run(out, t);
    if constexpr (N > 1) short_blocks<M, T, N / 2, R>(k, rows, out, t, x, n);
}

// out[m][t][x] = sum over j of weights[m][j] * rows[t + j][x], for t < count and x < n, n a multiple of 8.
template <class Source>
using Summation = void (*)(const Kernels&, Source, const Rows& out, long count, long n);

template <int M, Parity parity, class Source>
void long_summation(const Kernels& k, Source rows, const Rows& out, long count, long n) {
    constexpr int N = M == 1 ? 8 : M == 4 ? 2 : 4;
    long_blocks<M, N, parity>(k, rows, out, count, 0, n);
}

template <int M, int R, class Source>
void short_summation(const Kernels& k, Source rows, const Rows& out, long count, long n) {
    constexpr int T = !std::is_same<Source, Anywhere>::value ? 1 : M == 1 ? 4 : M == 2 ? 2 : 1;
    constexpr int N = (M == 1 ? 8 : M == 4 ? 2 : 4) / T;
    long t = 0;
    for (; t + T <= count; t += T) short_blocks<M, T, N, R>(k, rows, out, t, 0, n);
    if constexpr (T > 1)
        for (; t < count; t++) short_blocks<M, 1, 2 * N, R>(k, rows, out, t, 0, n);
}

// The fastest for M kernels.
template <int M, class Source>
Summation<Source> summation_of(const Kernels& k) {
    switch (k.radius[0]) {
        case 1: return short_summation<M, 1, Source>;
        case 2: return short_summation<M, 2, Source>;
        case SHORT: return short_summation<M, SHORT, Source>;
    }
    return k.parity == EVEN ? long_summation<M, EVEN, Source> : long_summation<M, ODD, Source>;
}

template <class Source>
Summation<Source> summation_for(const Kernels& k) {
    if (k.parity == NEITHER) return long_summation<1, NEITHER, Source>;
    switch (k.count) {
        case 1: return summation_of<1, Source>(k);
        case 2: return summation_of<2, Source>(k);
        case 3: return summation_of<3, Source>(k);
        default: return summation_of<4, Source>(k);
    }
}

void row_difference(const real* const* rows, float* out, long n) {
    for (long x = 0; x < n; x += LANES) put(out + x, load<vec>(rows[0] + x) - load<vec>(rows[1] + x));
}

void row_sum(const real* const* rows, long count, float* out, long n) {
    for (long x = 0; x < n; x += LANES) {
        vec sum = load<vec>(rows[0] + x);
        for (long i = 1; i < count; i++) sum += load<vec>(rows[i] + x);
        put(out + x, sum);
    }
}

#ifdef LF_DOUBLE
void row_copy(const real* const* rows, float* out, long n) {
    for (long x = 0; x < n; x += LANES) put(out + x, load<vec>(rows[0] + x));
}

void row_norm(const real* const* rows, long count, float* out, long n) {
    for (long x = 0; x < n; x += LANES) {
        vec sum = {};
        for (long i = 0; i < count; i++) {
            const vec v = load<vec>(rows[i] + x);
            sum = fma(v, v, sum);
        }
        put(out + x, root(sum));
    }
}
#else
// Squares leave the range of floats long before their root does.
void row_norm(const real* const* rows, long count, float* out, long n) {
    for (long x = 0; x < n; x += LANES) {
        vec largest = {}, sum = {};
        for (long i = 0; i < count; i++) largest = larger(largest, magnitude(load<vec>(rows[i] + x)));
        const Scale scale = scale_of(largest);
        for (long i = 0; i < count; i++) {
            const vec v = load<vec>(rows[i] + x) * scale.to_one;
            sum = fma(v, v, sum);
        }
        put(out + x, root(sum) * scale.back);
    }
}
#endif

}  // namespace
