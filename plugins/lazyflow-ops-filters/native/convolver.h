// Separable convolutions of a box of an image, pass by pass: along z, then y, then x.
//
// Terms share passes: the ten derivatives up to the second order take three passes along z, six along y and ten along
// x. Nothing as large as the box is kept in between, and each pass covers only what the next one needs around the box:
// a slab of planes is taken through all passes a few rows at a time, and of what the pass along z made only the rows
// stay that the pass along y still looks at.
#pragma once

#include "region.h"
#include "rows.h"

namespace {

Range range(const lf_image& spec, int axis) { return {(long)spec.start[axis], (long)spec.stop[axis]}; }

long reach_of(const lf_image& spec, int kernel) { return kernel < 0 ? 0 : spec.radius[kernel]; }

// Planes of pixels whose rows may begin anywhere: pixel (z, y, x) is plane[z][y * stride + x].
struct Planes {
    const real* const* plane;
    long stride;
    bool staged;  // whether rows are better copied together than read where they are; if not, they are scratch
};

struct Term {
    int image;
    int kernel[3];
};

// The convolutions along one axis: which kernel is applied to which result of the pass before. Each is computed once,
// and several kernels for the same source together.
struct Pass {
    struct Group {
        int source;
        int member[MOST_SHARED];  // the widest kernel first
        Kernels kernels;          // as members
        Summation<Anywhere> apart;
        Summation<Moved> moved;

        void start(int from, Parity parity) {
            source = from;
            kernels.count = 0;
            kernels.parity = parity;
        }
        // Whether one more kernel is best applied together with these.
        bool fits(Parity parity, long radius) const {
            const long other = kernels.radius[0];
            if (kernels.count == MOST_SHARED || parity == NEITHER || kernels.parity == NEITHER) return false;
            return radius > SHORT ? other > SHORT && parity == kernels.parity : radius == other;
        }
        void add(int convolution, const real* weights, long radius) {
            int at = kernels.count++;
            for (; at > 0 && kernels.radius[at - 1] < radius; at--) {
                member[at] = member[at - 1];
                kernels.weights[at] = kernels.weights[at - 1];
                kernels.radius[at] = kernels.radius[at - 1];
            }
            member[at] = convolution;
            kernels.weights[at] = weights;
            kernels.radius[at] = radius;
        }
    };
    int count = 0, groups = 0;
    int source[LF_MOST_TERMS], kernel[LF_MOST_TERMS];
    Group group[LF_MOST_TERMS];
    long reach = 0;

    // Return the number of a convolution.
    int add(int from, int with) {
        int i = 0;
        while (i < count && !(source[i] == from && kernel[i] == with)) i++;
        if (i == count) {
            source[i] = from;
            kernel[i] = with;
            count++;
        }
        return i;
    }

    void make_groups(const lf_image& spec) {
        for (int i = 0; i < count; i++) {
            if (kernel[i] < 0) continue;
            const real* weights = static_cast<const real*>(spec.weights[kernel[i]]);
            const long radius = spec.radius[kernel[i]];
            const Parity parity = parity_of(weights, radius);
            reach = max_of(reach, radius);
            int g = 0;
            while (g < groups && !(group[g].source == source[i] && group[g].fits(parity, radius))) g++;
            if (g == groups) group[groups++].start(source[i], parity);
            group[g].add(i, weights, radius);
        }
        for (int g = 0; g < groups; g++) {
            group[g].apart = summation_for<Anywhere>(group[g].kernels);
            group[g].moved = summation_for<Moved>(group[g].kernels);
        }
    }
};

struct Scratch {
    Buffer<real> stage, slab, rows, results, zeros;
    Buffer<const real*> from;
    Buffer<long> outside, offsets;
};

// Planes filtered along z at once share the planes they read, and together they should stay in the second cache.
constexpr long SLAB_PIXELS = (1 << 20) / sizeof(real);
constexpr long MOST_PLANES = 8;
// Rows filtered along y at once.
constexpr long ROWS = 8;
// What is filtered along z at once, a piece of a row from all planes in reach, should stay in the first cache.
constexpr long STAGE_PIXELS = (1 << 15) / sizeof(real);

// What to convolve, whatever box of it is wanted.
struct Convolver {
    const lf_image& spec;
    const Planes* images;
    int terms;
    int of_term[LF_MOST_TERMS];  // which result of the last pass is a term
    Pass along_z, along_y, along_x;

    Convolver(const lf_image& spec, const Planes* images, const Term* term, int terms)
        : spec(spec), images(images), terms(terms) {
        for (int i = 0; i < terms; i++) {
            const int a = along_z.add(term[i].image, term[i].kernel[0]);
            const int b = along_y.add(a, term[i].kernel[1]);
            of_term[i] = along_x.add(b, term[i].kernel[2]);
        }
        along_z.make_groups(spec);
        along_y.make_groups(spec);
        along_x.make_groups(spec);
    }

    // Compute a box and call sink(z, y, rows): one row per term, of x.size() pixels padded to whole vectors.
    // Return how it ended.
    template <class Sink>
    int run(Scratch& scratch, Range z, Range y, Range x, Sink sink) const;
};

// A box on its way through the passes.
struct Sweep {
    const Convolver& convolver;
    const lf_image& spec;
    const Pass &along_z, &along_y, &along_x;
    Scratch& scratch;
    const Range x, wide_y, wide_x;  // `wide`: with what the passes along y and x look at
    const long width;
    // Results along z: row y of plane p is at y % ring.
    const long ring, stride, plane_size, planes, piece;
    // Results along y: pixel wide_x.start is at `lead`, what lies beyond the image on both sides of it.
    const long lead, row_size;
    const long term_size;
    long outside = 0;  // how many pixels of a row lie beyond the image

    Sweep(const Convolver& c, Scratch& scratch, Range z, Range y, Range x)
        : convolver(c), spec(c.spec), along_z(c.along_z), along_y(c.along_y), along_x(c.along_x), scratch(scratch),
          x(x), wide_y(y.grown(along_y.reach, spec.shape[1])), wide_x(x.grown(along_x.reach, spec.shape[2])),
          width(wide_x.size()), ring(min_of(wide_y.size(), ROWS + 2 * along_y.reach)), stride(spread(width)),
          plane_size(spread(ring * stride)),
          planes(max_of(1, min_of(min_of(MOST_PLANES, z.size()), SLAB_PIXELS / max_of(1, along_z.count * plane_size)))),
          piece(max_of(64, min_of(whole_lines(width), STAGE_PIXELS / (2 * along_z.reach + planes) / 16 * 16))),
          lead(whole_lines(along_x.reach)), row_size(spread(lead + width + along_x.reach + 8)),
          term_size(whole_lines(x.size())) {}

    // Return whether there was memory.
    bool reserve() {
        const bool done = scratch.stage.reserve((2 * along_z.reach + planes) * piece) &&
                          scratch.slab.reserve(along_z.count * planes * plane_size) &&
                          scratch.rows.reserve(along_y.count * ROWS * row_size) &&
                          scratch.results.reserve(along_x.count * term_size) && scratch.zeros.reserve(stride) &&
                          scratch.from.reserve(2 * max_of(along_z.reach, along_y.reach) + planes + ROWS) &&
                          scratch.outside.reserve(4 * along_x.reach) &&
                          scratch.offsets.reserve(2 * along_y.reach + ROWS);
        if (!done) return false;
        // Whole vectors are computed of rows, and what stands behind their end must be numbers.
        scratch.rows.fill(0);
        scratch.zeros.fill(0);
        for (long i = x.start - along_x.reach; i < x.stop + along_x.reach; i++) {
            if (i == wide_x.start) i = wide_x.stop;
            if (i >= x.stop + along_x.reach) break;
            const long source = beyond(i, spec.shape[2], spec.border);
            scratch.outside[outside++] = place_of(i);
            scratch.outside[outside++] = source < 0 ? -1 : place_of(source);
        }
        return true;
    }

    // Where in a row along y a pixel is.
    long place_of(long x) const { return lead + x - wide_x.start; }
    real* slab_plane(int convolution, long plane) const {
        return scratch.slab.data + (convolution * planes + plane) * plane_size;
    }
    real* row_along_y(int convolution, long t) const {
        return scratch.rows.data + (convolution * ROWS + t) * row_size;
    }

    // Filter one row of `count` planes from z0 on.
    void along_z_row(long z0, long count, long row) const {
        const long offset = row % ring * stride;
        for (int a = 0; a < along_z.count; a++)
            if (along_z.kernel[a] < 0)
                for (long p = 0; p < count; p++) {
                    const Planes& image = convolver.images[along_z.source[a]];
                    copy_row(slab_plane(a, p) + offset, image.plane[z0 + p] + row * image.stride + wide_x.start, width);
                }
        for (int g = 0; g < along_z.groups; g++) {
            const Pass::Group& group = along_z.group[g];
            const long reads = 2 * group.kernels.radius[0] + count;
            for (long x0 = 0; x0 < width; x0 += piece) {
                const long n = min_of(piece, width - x0);
                collect(convolver.images[group.source], z0 - group.kernels.radius[0], reads, row, wide_x.start + x0, n);
                Rows out = {{}, plane_size};
                for (int m = 0; m < group.kernels.count; m++) out.out[m] = slab_plane(group.member[m], 0) + offset + x0;
                group.apart(group.kernels, Anywhere{scratch.from.data}, out, count, whole_vectors(n));
            }
        }
    }

    // Point `from` to the same n pixels of a row of some planes.
    void collect(const Planes& image, long z0, long count, long row, long x0, long n) const {
        for (long i = 0; i < count; i++) {
            const long z = beyond(z0 + i, spec.shape[0], spec.border);
            const real* pixels = z < 0 ? scratch.zeros.data : image.plane[z] + row * image.stride + x0;
            if (!image.staged) {
                scratch.from[i] = pixels;
                continue;
            }
            real* copy = scratch.stage.data + i * piece;
            scratch.from[i] = copy;
            copy_row(copy, pixels, n);
            // The next row of this plane comes soon, and the processor cannot guess it.
            if (z >= 0)
                for (long x = 0; x < n; x += LINE_FLOATS) __builtin_prefetch(pixels + image.stride + x);
        }
    }

    // Find out where in a plane of the slab the rows are that some results along y look at; -1 for zeros.
    void place_rows(Range rows) const {
        for (long j = 0; j < 2 * along_y.reach + rows.size(); j++) {
            const long y = beyond(rows.start - along_y.reach + j, spec.shape[1], spec.border);
            scratch.offsets[j] = y < 0 ? -1 : y % ring * stride;
        }
    }

    // Filter those rows of one plane of the slab.
    void along_y_rows(long plane, long count) const {
        const long* const offsets = scratch.offsets.data;
        for (int b = 0; b < along_y.count; b++)
            if (along_y.kernel[b] < 0)
                for (long t = 0; t < count; t++)
                    copy_row(row_along_y(b, t) + lead,
                             slab_plane(along_y.source[b], plane) + offsets[along_y.reach + t], width);
        for (int g = 0; g < along_y.groups; g++) {
            const Pass::Group& group = along_y.group[g];
            const long radius = group.kernels.radius[0], first = along_y.reach - radius;
            const real* const base = slab_plane(group.source, plane);
            for (long j = 0; j < 2 * radius + count; j++)
                scratch.from[j] = offsets[first + j] < 0 ? scratch.zeros.data : base + offsets[first + j];
            Rows out = {{}, row_size};
            for (int m = 0; m < group.kernels.count; m++) out.out[m] = row_along_y(group.member[m], 0) + lead;
            group.apart(group.kernels, Anywhere{scratch.from.data}, out, count, whole_vectors(width));
        }
        for (int b = 0; b < along_y.count && outside; b++)
            for (long t = 0; t < count; t++) extend(row_along_y(b, t));
    }

    // Fill in what lies beyond both ends of the image.
    void extend(real* row) const {
        const long* const places = scratch.outside.data;
        for (long i = 0; i < outside; i += 2) row[places[i]] = places[i + 1] < 0 ? 0 : row[places[i + 1]];
    }

    // Filter row t of those, and point to one row per term.
    void along_x_row(long t, const real** terms) const {
        for (int g = 0; g < along_x.groups; g++) {
            const Pass::Group& group = along_x.group[g];
            Rows out = {{}, 0};
            for (int m = 0; m < group.kernels.count; m++) out.out[m] = result(group.member[m]);
            const real* row = row_along_y(group.source, t) + place_of(x.start) - group.kernels.radius[0];
            group.moved(group.kernels, Moved{row}, out, 1, whole_vectors(x.size()));
        }
        for (int i = 0; i < convolver.terms; i++) {
            const int c = convolver.of_term[i];
            terms[i] = along_x.kernel[c] < 0 ? row_along_y(along_x.source[c], t) + place_of(x.start) : result(c);
        }
    }
    real* result(int convolution) const { return scratch.results.data + convolution * term_size; }
};

template <class Sink>
int Convolver::run(Scratch& scratch, Range z, Range y, Range x, Sink sink) const {
    Sweep sweep(*this, scratch, z, y, x);
    if (!sweep.reserve()) return LF_NO_MEMORY;
    const real* rows[LF_MOST_TERMS];
    for (long z0 = z.start; z0 < z.stop; z0 += sweep.planes) {
        const long count = min_of(sweep.planes, z.stop - z0);
        long next = sweep.wide_y.start;  // the first row that is not filtered along z yet
        for (long y0 = y.start; y0 < y.stop; y0 += ROWS) {
            const Range now = {y0, min_of(y0 + ROWS, y.stop)};
            for (const long until = now.grown(along_y.reach, spec.shape[1]).stop; next < until; next++) {
                if (is_set(spec.stop_flag)) return LF_STOPPED;
                sweep.along_z_row(z0, count, next);
            }
            sweep.place_rows(now);
            for (long p = 0; p < count; p++) {
                if (is_set(spec.stop_flag)) return LF_STOPPED;
                sweep.along_y_rows(p, now.size());
                for (long t = 0; t < now.size(); t++) {
                    sweep.along_x_row(t, rows);
                    sink(z0 + p, y0 + t, rows);
                }
            }
        }
    }
    return LF_DONE;
}

}  // namespace
