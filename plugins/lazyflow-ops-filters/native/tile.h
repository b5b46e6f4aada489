// Tiles of an image with what lies around them, as numbers in whose order the pixels are.
#pragma once

#include "region.h"

namespace {

// Pixels as unsigned numbers of the same size and in the same order; in the opposite one where all bits of `flip` are the
// others. Of zeros the negative one comes first, so that no result depends on the order in which pixels are compared.
template <class K>
struct Integer {
    typedef K Key;
    Key flip;
    LF_INLINE_MEMBER Key encode(Key bits) const { return bits ^ flip; }
    LF_INLINE_MEMBER Key decode(Key key) const { return key ^ flip; }
};
struct Float {
    typedef uint32_t Key;
    Key flip;
    LF_INLINE_MEMBER Key encode(Key bits) const { return bits ^ ((0u - (bits >> 31)) | 0x80000000u) ^ flip; }
    LF_INLINE_MEMBER Key decode(Key key) const {
        key ^= flip;
        return key ^ (((key >> 31) - 1u) | 0x80000000u);
    }
};

// A part of the region, and its pixels with those that neighbourhoods reach.
template <class P>
struct Tile {
    typedef typename P::Key Key;
    const lf_neighborhood& spec;
    const P code;
    Range z, y, x;
    long rows, width, stride;  // of the pixels: rows per plane, pixels per row, from row to row
    Buffer<Key> pixels;
    Buffer<long> column;

    Tile(const lf_neighborhood& spec, P code) : spec(spec), code(code) {}

    long planes() const { return z.size() + 2 * spec.radius[0]; }
    Key* row(Buffer<Key>& of, long zi, long yi) const { return of.data + (zi * rows + yi) * stride; }
    Key* row(long zi, long yi) { return row(pixels, zi, yi); }

    // Choose a part of the region and copy its pixels. Behind each row there is room for `spare` more.
    bool take(Range z_, Range y_, Range x_, long spare) {
        z = z_, y = y_, x = x_;
        rows = y.size() + 2 * spec.radius[1];
        width = x.size() + 2 * spec.radius[2];
        stride = width + spare;
        if (!(pixels.reserve(planes() * rows * stride + 64) && column.reserve(width))) return false;
        const Key zero = code.encode(0);
        for (long i = 0; i < width; i++)
            column[i] = beyond(x.start - spec.radius[2] + i, spec.shape[2], spec.border);
        // Where columns follow on each other.
        const long first = max_of(0, spec.radius[2] - x.start);
        const long last = min_of(width, spec.shape[2] - x.start + spec.radius[2]);
        for (long p = 0; p < planes(); p++) {
            const long from_z = beyond(z.start - spec.radius[0] + p, spec.shape[0], spec.border);
            for (long r = 0; r < rows; r++) {
                const long from_y = beyond(y.start - spec.radius[1] + r, spec.shape[1], spec.border);
                Key* out = row(p, r);
                if (from_z < 0 || from_y < 0) {
                    for (long i = 0; i < width; i++) out[i] = zero;
                    continue;
                }
                const Key* source =
                    static_cast<const Key*>(spec.data) + from_z * spec.stride[0] + from_y * spec.stride[1];
                for (long i = 0; i < first; i++) out[i] = column[i] < 0 ? zero : code.encode(source[column[i]]);
                const Key* middle = source + x.start - spec.radius[2];
                for (long i = first; i < last; i++) out[i] = code.encode(middle[i]);
                for (long i = last; i < width; i++) out[i] = column[i] < 0 ? zero : code.encode(source[column[i]]);
            }
        }
        return true;
    }

    // Write a row of results; row (zi, yi) of the tile.
    void put(long zi, long yi, const Key* keys) const {
        Key* out = static_cast<Key*>(spec.out) + (z.start - spec.start[0] + zi) * spec.out_stride[0] +
                   (y.start - spec.start[1] + yi) * spec.out_stride[1] + (x.start - spec.start[2]);
        for (long i = 0; i < x.size(); i++) out[i] = code.decode(keys[i]);
    }
};

// Call work(z, y, x) for the parts of the region that are at most this long; stop where it does not return LF_DONE.
template <class Work>
int each_tile(const lf_neighborhood& spec, const long* length, Work work) {
    for (long z = spec.start[0]; z < spec.stop[0]; z += length[0])
        for (long y = spec.start[1]; y < spec.stop[1]; y += length[1])
            for (long x = spec.start[2]; x < spec.stop[2]; x += length[2]) {
                if (is_set(spec.stop_flag)) return LF_STOPPED;
                const int code = work(Range{z, min_of(z + length[0], spec.stop[0])},
                                      Range{y, min_of(y + length[1], spec.stop[1])},
                                      Range{x, min_of(x + length[2], spec.stop[2])});
                if (code != LF_DONE) return code;
            }
    return LF_DONE;
}

}  // namespace
