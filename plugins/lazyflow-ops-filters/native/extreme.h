// Largest values of neighbourhoods; the smallest are the largest in the opposite order.
//
// Runs of pixels are compared by doubling: what is known of two runs that follow on each other, or overlap, is known
// of both together, so that a run of n takes log2(n) + 1 comparisons of whole vectors (van den Boomgaard and van Balen,
// "Methods for fast morphological image transforms using bitmapped binary images", 1992). The three comparisons per
// pixel of van Herk (1992), and Gil and Werman (1993), are not fewer until runs are longer than eight, and along rows
// they are not of vectors.
#pragma once

#include "tile.h"

namespace {

// The larger of whole vectors.
template <class K>
struct Larger {
    typedef K V __attribute__((vector_size(32)));
    static constexpr long N = 32 / sizeof(K);

    static LF_INLINE_MEMBER V of(V a, V b) { return a > b ? a : b; }
    static LF_INLINE_MEMBER V get(const K* p) {
        V v;
        std::memcpy(&v, p, sizeof(V));
        return v;
    }
    static LF_INLINE_MEMBER void put(K* p, V v) { std::memcpy(p, &v, sizeof(V)); }

    // out[i] of a[i] and b[i], in whole vectors; out may be a, and begin before b.
    static void row(K* out, const K* a, const K* b, long n) {
        for (long i = 0; i < n; i += N) put(out + i, of(get(a + i), get(b + i)));
    }

    // Of rows, n pixels each, let each be the largest of `run` rows from it on; distance in pixels from row to row.
    // The last run - 1 are left as something else.
    static void runs(K* rows, long distance, long count, long run, long n) {
        for (long have = 1; have < run;) {
            const long step = min_of(have, run - have);
            count -= step;
            for (long i = 0; i < count; i++) {
                K* row_i = rows + i * distance;
                row(row_i, row_i, row_i + step * distance, n);
            }
            have += step;
        }
    }

    // The same along one row.
    static void along(K* out, const K* in, long n, long run) {
        // n results need n + run - 1 pixels; more are computed than are needed, of what stands behind them.
        if (run == 1) {
            if (out != in) std::memmove(out, in, n * sizeof(K));
            return;
        }
        for (long have = 1; have < run;) {
            const long step = min_of(have, run - have);
            row(out, in, in + step, n + run - have - step);
            in = out;
            have += step;
        }
    }
};

template <class P>
struct LargestFilter {
    typedef typename P::Key Key;
    typedef Larger<Key> E;
    const lf_neighborhood& spec;
    Tile<P> tile;
    // Per distinct reach along x the largest of runs of that reach.
    Buffer<Key> runs;
    Buffer<long> number;  // of a reach among the distinct ones

    LargestFilter(const lf_neighborhood& spec, P code) : spec(spec), tile(spec, code) {}

    int run() {
        long length[3];
        for (int axis = 0; axis < 3; axis++) {
            // Long enough that what lies around is not most of the work, short enough to stay in the second cache.
            const long longest = axis == 2 ? 512 / (long)sizeof(Key) : 16;
            length[axis] = min_of(max_of(longest, 4L * spec.radius[axis]), spec.stop[axis] - spec.start[axis]);
        }
        return each_tile(spec, length, [&](Range z, Range y, Range x) {
            if (!tile.take(z, y, x, 2 * E::N)) return (int)LF_NO_MEMORY;
            return is_box() ? box() : ball();
        });
    }

  private:
    long runs_y() const { return 2L * spec.radius[1] + 1; }
    long run_count() const { return (2L * spec.radius[0] + 1) * runs_y(); }
    bool is_box() const {
        for (long i = 0; i < run_count(); i++)
            if (spec.reach[i] != spec.radius[2]) return false;
        return true;
    }

    int box() {
        const long n = tile.x.size();
        for (long p = 0; p < tile.planes(); p++) {
            if (is_set(spec.stop_flag)) return LF_STOPPED;
            for (long r = 0; r < tile.rows; r++) E::along(tile.row(p, r), tile.row(p, r), n, 2 * spec.radius[2] + 1);
            E::runs(tile.row(p, 0), tile.stride, tile.rows, 2 * spec.radius[1] + 1, n);
        }
        for (long r = 0; r < tile.y.size(); r++) {
            if (is_set(spec.stop_flag)) return LF_STOPPED;
            E::runs(tile.row(0, r), tile.rows * tile.stride, tile.planes(), 2 * spec.radius[0] + 1, n);
            for (long p = 0; p < tile.z.size(); p++) tile.put(p, r, tile.row(p, r));
        }
        return LF_DONE;
    }

    int ball() {
        const long n = tile.x.size(), size = tile.planes() * tile.rows * tile.stride;
        if (!number.reserve(spec.radius[2] + 1)) return LF_NO_MEMORY;
        number.fill(-1);
        long distinct = 0;
        for (long i = 0; i < run_count(); i++)
            if (spec.reach[i] >= 0 && number[spec.reach[i]] < 0) number[spec.reach[i]] = distinct++;
        if (!runs.reserve(distinct * size + 64 + tile.stride)) return LF_NO_MEMORY;
        for (long reach = 0; reach <= spec.radius[2]; reach++) {
            if (number[reach] < 0) continue;
            for (long p = 0; p < tile.planes(); p++) {
                if (is_set(spec.stop_flag)) return LF_STOPPED;
                for (long r = 0; r < tile.rows; r++)
                    E::along(run_row(reach, p, r), tile.row(p, r) + spec.radius[2] - reach, n, 2 * reach + 1);
            }
        }
        Key* const result = runs.data + distinct * size;
        for (long p = 0; p < tile.z.size(); p++)
            for (long r = 0; r < tile.y.size(); r++) {
                if (is_set(spec.stop_flag)) return LF_STOPPED;
                const Key* first = nullptr;
                for (long i = 0; i < run_count(); i++) {
                    if (spec.reach[i] < 0) continue;
                    const Key* row = run_row(spec.reach[i], p + i / runs_y(), r + i % runs_y());
                    if (first) E::row(result, first, row, n);
                    first = first ? result : row;
                }
                tile.put(p, r, first);
            }
        return LF_DONE;
    }
    Key* run_row(long reach, long p, long r) const {
        const long size = tile.planes() * tile.rows * tile.stride;
        return runs.data + number.data[reach] * size + (p * tile.rows + r) * tile.stride;
    }
};

}  // namespace
