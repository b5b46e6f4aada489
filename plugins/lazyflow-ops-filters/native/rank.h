// The value of a rank among those of a neighbourhood.
//
// The neighbourhood is moved along a row, and what enters and leaves it is noted (Huang, Yang and Tang, "A fast
// two-dimensional median filtering algorithm", 1979) - not in a histogram of values, but as a set of places in the order
// of all pixels of a tile, which are sorted once. So a pixel that moves costs one bit, whatever its type.
#pragma once

#include "tile.h"

namespace {

// Pixels of a tile up to which places are 16 bits.
constexpr long SHORT_PLACES = 1 << 16;

template <class P, class Place>
struct RankFilter {
    typedef typename P::Key Key;
    const lf_neighborhood& spec;
    Tile<P> tile;
    Buffer<Place> place;  // of each pixel of the tile in their order; ties in the order in which they stand
    Buffer<Key> value;    // at each place
    Buffer<uint32_t> counts, index;
    Buffer<Key> moved;
    Buffer<uint64_t> members;  // a bit per place: whether its pixel is in the neighbourhood
    Buffer<const Place*> enter, leave;
    Buffer<Key> result;

    RankFilter(const lf_neighborhood& spec, P code) : spec(spec), tile(spec, code) {}

    int run(const long* length) {
        return each_tile(spec, length, [&](Range z, Range y, Range x) {
            if (!tile.take(z, y, x, 0)) return (int)LF_NO_MEMORY;
            const int code = sort();
            return code == LF_DONE ? slide() : code;
        });
    }

  private:
    long size() const { return tile.planes() * tile.rows * tile.width; }

    int sort() {
        const long n = size();
        if (!(place.reserve(n) && value.reserve(n))) return LF_NO_MEMORY;
        return sizeof(Key) < 4 ? sort_short(n) : sort_long(n);
    }

    // Make counts into where each number begins.
    static void begin_of(uint32_t* count, long n) {
        uint32_t sum = 0;
        for (long i = 0; i < n; i++) {
            const uint32_t here = count[i];
            count[i] = sum;
            sum += here;
        }
    }

    // Count all values.
    int sort_short(long n) {
        const long values = 1L << (8 * sizeof(Key) & 31);
        if (!counts.reserve(values)) return LF_NO_MEMORY;
        std::memset(counts.data, 0, values * sizeof(uint32_t));
        const Key* pixels = tile.pixels.data;
        for (long i = 0; i < n; i++) counts[pixels[i]]++;
        begin_of(counts.data, values);
        for (long i = 0; i < n; i++) {
            const uint32_t at = counts[pixels[i]]++;
            place[i] = (Place)at;
            value[at] = pixels[i];
        }
        return LF_DONE;
    }

    // Sort by 11 bits at a time, the lowest first.
    int sort_long(long n) {
        constexpr int BITS = 11, DIGITS = 1 << BITS;
        if (!(counts.reserve(3 * DIGITS) && index.reserve(2 * n) && moved.reserve(2 * n))) return LF_NO_MEMORY;
        std::memset(counts.data, 0, 3 * DIGITS * sizeof(uint32_t));
        const Key* pixels = tile.pixels.data;
        uint32_t *low = counts.data, *middle = low + DIGITS, *high = middle + DIGITS;
        for (long i = 0; i < n; i++) {
            const uint32_t key = pixels[i];
            low[key & (DIGITS - 1)]++;
            middle[key >> BITS & (DIGITS - 1)]++;
            high[key >> 2 * BITS]++;
        }
        begin_of(low, DIGITS);
        begin_of(middle, DIGITS);
        begin_of(high, DIGITS);
        Key *first = moved.data, *second = first + n;
        uint32_t *first_index = index.data, *second_index = first_index + n;
        for (long i = 0; i < n; i++) {
            const Key key = pixels[i];
            const uint32_t at = low[key & (DIGITS - 1)]++;
            first[at] = key;
            first_index[at] = (uint32_t)i;
        }
        if (is_set(spec.stop_flag)) return LF_STOPPED;
        for (long i = 0; i < n; i++) {
            const Key key = first[i];
            const uint32_t at = middle[(uint32_t)key >> BITS & (DIGITS - 1)]++;
            second[at] = key;
            second_index[at] = first_index[i];
        }
        if (is_set(spec.stop_flag)) return LF_STOPPED;
        for (long i = 0; i < n; i++) {
            const Key key = second[i];
            const uint32_t at = high[(uint32_t)key >> 2 * BITS]++;
            place[second_index[i]] = (Place)at;
            value[at] = key;
        }
        return LF_DONE;
    }

    int slide() {
        const long words = size() / 64 + 1, n = tile.x.size();
        const long side = 2L * spec.radius[1] + 1, all = (2L * spec.radius[0] + 1) * side;
        if (!(members.reserve(words) && enter.reserve(all) && leave.reserve(all) && result.reserve(n)))
            return LF_NO_MEMORY;
        uint64_t* const set = members.data;
        const long rank = spec.rank;
        long word = words / 2;  // the rank is looked for from here
        for (long p = 0; p < tile.z.size(); p++)
            for (long r = 0; r < tile.y.size(); r++) {
                if (is_set(spec.stop_flag)) return LF_STOPPED;
                std::memset(set, 0, words * sizeof(uint64_t));
                long count = 0;     // of runs
                long below = 0;     // members before `word`
                uint32_t limit = (uint32_t)(64 * word);
                for (long i = 0; i < all; i++) {
                    const long reach = spec.reach[i];
                    if (reach < 0) continue;
                    const Place* row =
                        place.data + ((p + i / side) * tile.rows + r + i % side) * tile.width + spec.radius[2];
                    for (long x = -reach; x <= reach; x++) {
                        set[row[x] >> 6] ^= 1ull << (row[x] & 63);
                        below += row[x] < limit;
                    }
                    enter[count] = row + reach;
                    leave[count++] = row - reach - 1;
                }
                for (long x = 0;;) {
                    while (below > rank) below -= __builtin_popcountll(set[--word]);
                    for (long here; below + (here = __builtin_popcountll(set[word])) <= rank; word++) below += here;
                    uint64_t rest = set[word];
                    for (long i = below; i < rank; i++) rest &= rest - 1;
                    result[x] = value[64 * word + __builtin_ctzll(rest)];
                    if (++x == n) break;
                    limit = (uint32_t)(64 * word);
                    for (long i = 0; i < count; i++) {
                        const uint32_t in = enter[i][x], out = leave[i][x];
                        set[in >> 6] ^= 1ull << (in & 63);
                        set[out >> 6] ^= 1ull << (out & 63);
                        below += (in < limit) - (out < limit);
                    }
                }
                tile.put(p, r, result.data);
            }
        return LF_DONE;
    }
};

// How long tiles are, such that a pixel costs little: sorting it with those around, beginning a row, moving along it.
inline void choose_tile(const lf_neighborhood& spec, long members, long* best) {
    double least = 0;
    for (long z = 1; z <= 32; z *= 2)
        for (long y = 1; y <= 64; y *= 2)
            for (long x = 16; x <= 512; x *= 2) {
                const long length[3] = {z, y, x};
                double sorted = 1, pixels = 1;
                for (int axis = 0; axis < 3; axis++) {
                    const long n = min_of(length[axis], spec.stop[axis] - spec.start[axis]);
                    sorted *= n + 2 * spec.radius[axis];
                    pixels *= n;
                }
                // Nanoseconds, roughly: 10 to sort a pixel, 1 to enter one, 1 for 4 words to clear and to look at.
                const double row = min_of(x, spec.stop[2] - spec.start[2]);
                const double cost = 10 * sorted / pixels + members / row + sorted / 64 * (0.25 / row + 1.0 / members);
                if (least == 0 || cost < least) {
                    least = cost;
                    for (int axis = 0; axis < 3; axis++) best[axis] = length[axis];
                }
            }
}

}  // namespace
