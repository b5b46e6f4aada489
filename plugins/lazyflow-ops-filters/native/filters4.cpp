// Separable convolutions of a region of an image, pass by pass (z, then y, then x), with a pointwise end.
//
// A filter is a list of terms, each a kernel per axis, and of results made of them. Terms share passes: the
// ten derivatives up to the second order take three passes along z, six along y and ten along x. Nothing as
// large as the region is kept in between: along z a slab of some planes is filtered at a time, along y and x
// one row. Each pass covers only what the next one needs around the region.

#include <cstdlib>

#include "eigen.h"
#include "filters.h"
#include "rows.h"

#define LF_NAME2(name, isa) name##_##isa
#define LF_NAME1(name, isa) LF_NAME2(name, isa)
#define LF_NAME(name) LF_NAME1(name, LF_ISA)

namespace {

inline long min_of(long a, long b) { return a < b ? a : b; }
inline long max_of(long a, long b) { return a > b ? a : b; }
inline long whole_vectors(long n) { return (n + 7) / 8 * 8; }

constexpr long LINE = 64;  // bytes of a line of the cache
inline long whole_lines(long floats) { return (floats + 15) / 16 * 16; }

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

// The pixel that stands for position i of an axis of n pixels; -1 for a zero.
long beyond(long i, long n, int border) {
    if (i >= 0 && i < n) return i;
    if (border == LF_ZERO) return -1;
    if (border == LF_NEAREST || n == 1) return i < 0 ? 0 : n - 1;
    const long period = border == LF_MIRROR ? 2 * (n - 1) : 2 * n;
    i %= period;
    if (i < 0) i += period;
    if (border == LF_MIRROR) return i < n ? i : period - i;
    return i < n ? i : period - 1 - i;
}

struct Range {
    long start, stop;
    long size() const { return stop - start; }
    Range grown(long by, long n) const { return {max_of(0, start - by), min_of(n, stop + by)}; }
};

Range range(const lf_image& spec, int axis) { return {(long)spec.start[axis], (long)spec.stop[axis]}; }

long reach_of(const lf_image& spec, int kernel) { return kernel < 0 ? 0 : spec.radius[kernel]; }

// Copy n pixels to scratch, and zeros behind them up to a whole vector.
inline void copy_row(float* out, const float* row, long n) {
    long x = 0;
    for (; x + 8 <= n; x += 8) store(out + x, load<v8f>(row + x));
    if (x == n) return;
    store(out + x, v8f{});
    std::memcpy(out + x, row + x, (n - x) * sizeof(float));
}

// Planes of pixels whose rows may begin anywhere: pixel (z, y, x) is plane[z][y * stride + x].
struct Planes {
    const float* const* plane;
    long stride;
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
        Kernels kernels;  // as members
        Summation<Anywhere> apart;
        Summation<Moved> moved;

        void start(int from) {
            source = from;
            kernels.count = 0;
        }
        void add(int convolution, const float* weights, long radius) {
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

    long reach(const lf_image& spec) const {
        long widest = 0;
        for (int i = 0; i < count; i++) widest = max_of(widest, reach_of(spec, kernel[i]));
        return widest;
    }

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
            const long radius = spec.radius[kernel[i]];
            int g = 0;
            while (g < groups && !(group[g].source == source[i] && group[g].kernels.count < MOST_SHARED &&
                                   fit(group[g].kernels.radius[0], radius)))
                g++;
            if (g == groups) group[groups++].start(source[i]);
            group[g].add(i, spec.weights[kernel[i]], radius);
        }
        for (int g = 0; g < groups; g++) {
            group[g].apart = summation_for<Anywhere>(group[g].kernels);
            group[g].moved = summation_for<Moved>(group[g].kernels);
        }
    }

    // Whether kernels of these radii are best applied together.
    static bool fit(long radius, long other) { return radius == other || (radius > SHORT && other > SHORT); }
};

struct Scratch {
    Buffer<float> stage, slab, rows, results, zeros;
    Buffer<const float*> from;
    Buffer<long> beyond_x;
};

// A distance between rows, or planes, that does not put the same pixels of all of them into the same few places of
// the cache, as powers of two do.
inline long spread(long n) { return whole_lines(n) + (whole_lines(n) % 128 == 0 ? 16 : 0); }

// Convolutions of some images of one shape.
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
    // Return false if memory ran out.
    template <class Sink>
    bool run(Scratch& scratch, Range z, Range y, Range x, Sink sink) const;
};

// Planes filtered along z at once share the planes they read, and together they should stay in the second cache.
constexpr long SLAB_FLOATS = 1 << 18;
constexpr long MOST_PLANES = 16;
// Rows filtered along y at once.
constexpr long ROWS = 4;
// What is filtered along z at once, a piece of a row from all planes in reach, should stay in the first cache.
constexpr long STAGE_FLOATS = 1 << 13;

template <class Sink>
bool Convolver::run(Scratch& scratch, Range z, Range y, Range x, Sink sink) const {
    const long nz = spec.shape[0], ny = spec.shape[1], nx = spec.shape[2];
    const long reach_z = along_z.reach(spec), reach_y = along_y.reach(spec), reach_x = along_x.reach(spec);
    const Range wide_y = y.grown(reach_y, ny), wide_x = x.grown(reach_x, nx);
    const long width = wide_x.size();
    // Results along z, of the rows that the next results along y look at: row y of plane p is at y % ring.
    const long ring = min_of(wide_y.size(), ROWS + 2 * reach_y), stride = spread(width), plane_size = spread(ring * stride);
    const long planes =
        max_of(1, min_of(min_of(MOST_PLANES, z.size()), SLAB_FLOATS / max_of(1, along_z.count * plane_size)));
    const long piece = max_of(64, min_of(whole_lines(width), STAGE_FLOATS / (2 * reach_z + planes) / 16 * 16));
    // Results along y: pixel wide_x.start is at `lead`, what lies beyond the image on both sides of it.
    const long lead = whole_lines(reach_x), row_size = spread(lead + width + reach_x + 8);
    const long inner = lead + x.start - wide_x.start;
    const long term_size = whole_lines(x.size());

    if (!(scratch.stage.reserve((2 * reach_z + planes) * piece) &&
          scratch.slab.reserve(along_z.count * planes * plane_size) &&
          scratch.rows.reserve(along_y.count * ROWS * row_size) &&
          scratch.results.reserve(along_x.count * term_size) && scratch.zeros.reserve(stride) &&
          scratch.from.reserve(2 * max_of(reach_z, reach_y) + planes + ROWS) &&
          scratch.beyond_x.reserve(4 * reach_x)))
        return false;
    // Whole vectors are computed of rows, and what stands behind their end must be numbers.
    scratch.rows.fill(0.0f);
    scratch.zeros.fill(0.0f);
    float *const stage = scratch.stage.data, *const slab = scratch.slab.data;
    float *const rows = scratch.rows.data, *const results = scratch.results.data;
    const float** const from = scratch.from.data;

    // Where in a row pixels lie beyond the image, and which pixel stands for each; -1 for a zero.
    long* const beyond_x = scratch.beyond_x.data;
    long outside = 0;
    for (long i = x.start - reach_x; i < x.stop + reach_x; i++) {
        if (i == wide_x.start) i = wide_x.stop;
        if (i >= x.stop + reach_x) break;
        const long source = beyond(i, nx, spec.border);
        beyond_x[outside++] = lead + i - wide_x.start;
        beyond_x[outside++] = source < 0 ? -1 : lead + source - wide_x.start;
    }

    for (long z0 = z.start; z0 < z.stop; z0 += planes) {
        const long count = min_of(planes, z.stop - z0);
        const auto slab_row = [&](int a, long plane, long row) {
            return slab + (a * planes + plane) * plane_size + row % ring * stride;
        };
        long next = wide_y.start;  // the first row that is not filtered along z yet

        for (long y0 = y.start; y0 < y.stop; y0 += ROWS) {
            const long y1 = min_of(y0 + ROWS, y.stop);

            for (const long until = min_of(ny, y1 + reach_y); next < until; next++) {
                for (int a = 0; a < along_z.count; a++)
                    if (along_z.kernel[a] < 0)
                        for (long p = 0; p < count; p++) {
                            const Planes& image = images[along_z.source[a]];
                            copy_row(slab_row(a, p, next), image.plane[z0 + p] + next * image.stride + wide_x.start, width);
                        }
                for (int g = 0; g < along_z.groups; g++) {
                    const Pass::Group& group = along_z.group[g];
                    const Planes& image = images[group.source];
                    const long offset = next * image.stride + wide_x.start;
                    const long r = group.kernels.radius[0];
                    for (long i = 0; i < 2 * r + count; i++) from[i] = stage + i * piece;
                    for (long x0 = 0; x0 < width; x0 += piece) {
                        const long n = min_of(piece, width - x0);
                        for (long i = 0; i < 2 * r + count; i++) {
                            const long source = beyond(z0 - r + i, nz, spec.border);
                            const float* row = source < 0 ? scratch.zeros.data : image.plane[source] + offset + x0;
                            copy_row(stage + i * piece, row, n);
                            // The next row of this plane comes soon, and the processor cannot guess it.
                            if (source >= 0) for (long x = 0; x < n; x += 16) __builtin_prefetch(row + image.stride + x);
                        }
                        Rows out = {{}, plane_size};
                        for (int m = 0; m < group.kernels.count; m++)
                            out.out[m] = slab_row(group.member[m], 0, next) + x0;
                        group.apart(group.kernels, Anywhere{from}, out, count, whole_vectors(n));
                    }
                }
            }

            for (long p = 0; p < count; p++) {
                for (int b = 0; b < along_y.count; b++)
                    if (along_y.kernel[b] < 0)
                        for (long t = 0; t < y1 - y0; t++)
                            copy_row(rows + (b * ROWS + t) * row_size + lead,
                                     slab_row(along_y.source[b], p, y0 + t), width);
                for (int g = 0; g < along_y.groups; g++) {
                    const Pass::Group& group = along_y.group[g];
                    const long r = group.kernels.radius[0];
                    for (long j = 0; j < 2 * r + y1 - y0; j++) {
                        const long source = beyond(y0 - r + j, ny, spec.border);
                        from[j] = source < 0 ? scratch.zeros.data : slab_row(group.source, p, source);
                    }
                    Rows out = {{}, row_size};
                    for (int m = 0; m < group.kernels.count; m++)
                        out.out[m] = rows + group.member[m] * ROWS * row_size + lead;
                    group.apart(group.kernels, Anywhere{from}, out, y1 - y0, whole_vectors(width));
                }
                for (long t = 0; t < y1 - y0; t++) {
                    for (int b = 0; b < along_y.count; b++) {
                        float* row = rows + (b * ROWS + t) * row_size;
                        for (long i = 0; i < outside; i += 2)
                            row[beyond_x[i]] = beyond_x[i + 1] < 0 ? 0.0f : row[beyond_x[i + 1]];
                    }
                    for (int g = 0; g < along_x.groups; g++) {
                        const Pass::Group& group = along_x.group[g];
                        Rows out = {{}, 0};
                        for (int m = 0; m < group.kernels.count; m++) out.out[m] = results + group.member[m] * term_size;
                        const float* row = rows + (group.source * ROWS + t) * row_size + inner - group.kernels.radius[0];
                        group.moved(group.kernels, Moved{row}, out, 1, whole_vectors(x.size()));
                    }
                    const float* term_rows[LF_MOST_TERMS];
                    for (int i = 0; i < terms; i++) {
                        const int c = of_term[i];
                        term_rows[i] = along_x.kernel[c] < 0 ? rows + (along_x.source[c] * ROWS + t) * row_size + inner
                                                             : results + c * term_size;
                    }
                    sink(z0 + p, y0 + t, term_rows);
                }
            }
        }
    }
    return true;
}

// Results larger than this, in bytes, are written past the caches where a row is long enough for its ends, which
// share lines with other rows, not to count.
constexpr long STREAMED = 1 << 22;
constexpr long STREAMED_ROW = 1024;

// Turns rows of terms into rows of results.
struct Finisher {
    const lf_image& spec;
    const lf_result* results;
    int count;
    long n;
    bool streams;
    Buffer<float> zeros, values;

    Finisher(const lf_image& spec, const lf_result* results, int count)
        : spec(spec), results(results), count(count), n(whole_vectors(spec.stop[2] - spec.start[2])),
          zeros(n), values(LF_MOST_RESULTS * n) {
        zeros.fill(0.0f);
        long wanted = 0;
        for (int i = 0; i < count; i++)
            for (int j = 0; j < LF_MOST_RESULTS; j++) wanted += results[i].out[j] != nullptr;
        for (int axis = 0; axis < 3; axis++) wanted *= range(spec, axis).size();
        streams = wanted * (long)sizeof(float) > STREAMED && range(spec, 2).size() >= STREAMED_ROW;
    }
    ~Finisher() {
        if (streams) drain();
    }

    explicit operator bool() const { return zeros && values; }

    void operator()(long z, long y, const float* const* terms) {
        for (int i = 0; i < count; i++) {
            const lf_result& result = results[i];
            const float* rows[LF_MOST_INPUTS];
            for (int j = 0; j < result.inputs; j++)
                rows[j] = result.terms[j] < 0 ? zeros.data : terms[result.terms[j]];
            float* made[LF_MOST_RESULTS] = {values.data, values.data + n, values.data + 2 * n};
            const float* source[LF_MOST_RESULTS] = {made[0], made[1], made[2]};
            switch (result.kind) {
                case LF_COPY: source[0] = rows[0]; break;
                case LF_DIFFERENCE: row_difference(rows, made[0], n); break;
                case LF_SUM: row_sum(rows, result.inputs, made[0], n); break;
                case LF_NORM: row_norm(rows, result.inputs, made[0], n); break;
                case LF_EIGENVALUES:
                    if (result.inputs == 3) row_eigenvalues2(rows, made, n);
                    else row_eigenvalues3(rows, made, n);
                    break;
                case LF_EIGENVALUES_SINGLE:
                    if (result.inputs == 3) row_eigenvalues2(rows, made, n);
                    else row_eigenvalues3_single(rows, made, n);
                    break;
            }
            for (int j = 0; j < LF_MOST_RESULTS; j++)
                if (result.out[j]) write(result.out[j], result.stride[j], z, y, source[j]);
        }
    }

    void write(float* out, const int64_t* stride, long z, long y, const float* row) const {
        out += (z - spec.start[0]) * stride[0] + (y - spec.start[1]) * stride[1];
        const long length = spec.stop[2] - spec.start[2];
        if (stride[2] == 1) {
            if (streams) stream(out, row, length);
            else std::memcpy(out, row, length * sizeof(float));
            return;
        }
        for (long x = 0; x < length; x++) out[x * stride[2]] = row[x];
    }
};

bool convolve(const lf_image& spec, int count, const lf_term* given, int results, const lf_result* result) {
    Buffer<const float*> plane(spec.shape[0]);
    Finisher finish(spec, result, results);
    if (!(plane && finish)) return false;
    for (long z = 0; z < spec.shape[0]; z++) plane[z] = spec.data + z * spec.stride[0];
    const Planes image = {plane.data, (long)spec.stride[1]};
    Term terms[LF_MOST_TERMS];
    for (int i = 0; i < count; i++)
        terms[i] = {0, {given[i].kernel[0], given[i].kernel[1], given[i].kernel[2]}};
    Scratch scratch;
    return Convolver(spec, &image, terms, count).run(
        scratch, range(spec, 0), range(spec, 1), range(spec, 2),
        [&](long z, long y, const float* const* rows) { finish(z, y, rows); });
}

// Products of the gradient that are kept at once, in floats, where there is a choice.
constexpr long PRODUCT_FLOATS = 1 << 19;

struct TensorScratch {
    Scratch convolver;
    Buffer<float> products;
    Buffer<const float*> product_plane;
};

// The products of the gradient are kept for as many planes as the outer smoothing looks at.
bool tensor_band(const lf_image& spec, const Planes& image, const lf_tensor& tensor, Range y, int results,
                 const lf_result* result, TensorScratch& scratch);

bool structure_tensor(const lf_image& spec, const lf_tensor& tensor, int results, const lf_result* result) {
    Buffer<const float*> plane(spec.shape[0]);
    if (!plane) return false;
    for (long z = 0; z < spec.shape[0]; z++) plane[z] = spec.data + z * spec.stride[0];
    const Planes image = {plane.data, (long)spec.stride[1]};

    // In bands of rows, so that the products stay in cache, yet high enough for their halo to be a small part.
    const long reach_z = reach_of(spec, tensor.outer.kernel[0]), reach_y = reach_of(spec, tensor.outer.kernel[1]);
    const long per_row = 6 * (2 * reach_z + 1) * (spec.stop[2] - spec.start[2]);
    const long rows = max_of(max_of(32, 8 * reach_y), PRODUCT_FLOATS / max_of(1, per_row));
    const Range all = range(spec, 1);
    TensorScratch scratch;
    for (long y0 = all.start; y0 < all.stop; y0 += rows)
        if (!tensor_band(spec, image, tensor, {y0, min_of(y0 + rows, all.stop)}, results, result, scratch))
            return false;
    return true;
}

bool tensor_band(const lf_image& spec, const Planes& image, const lf_tensor& tensor, Range y, int results,
                 const lf_result* result, TensorScratch& scratch) {
    int axes[3], count = 0;  // those along which there is a derivative
    Term derivative[3];
    for (int i = 0; i < 3; i++) {
        const int* k = tensor.derivative[i].kernel;
        if (k[0] == -2) continue;
        derivative[count] = {0, {k[0], k[1], k[2]}};
        axes[count++] = i;
    }
    // Products in the order of the upper triangle; where each of the six stands among those computed.
    int pairs = 0, left[6], right[6], slot[3][3];
    for (int i = 0; i < 3; i++)
        for (int j = i; j < 3; j++) slot[i][j] = -1;
    for (int i = 0; i < count; i++)
        for (int j = i; j < count; j++) {
            left[pairs] = i;
            right[pairs] = j;
            slot[axes[i]][axes[j]] = pairs++;
        }

    long reach[3];
    for (int i = 0; i < 3; i++) reach[i] = reach_of(spec, tensor.outer.kernel[i]);
    const Range z = range(spec, 0);
    const Range wide_y = y.grown(reach[1], spec.shape[1]);
    const Range wide_x = range(spec, 2).grown(reach[2], spec.shape[2]);
    const long width = wide_x.size(), stride = spread(width), plane_size = spread(wide_y.size() * stride);
    const long slab = max_of(1, min_of(min_of(8, z.size()), SLAB_FLOATS / max_of(1, pairs * plane_size)));
    const long ring = min_of(spec.shape[0], slab + 2 * reach[0]);

    if (!(scratch.products.reserve(pairs * ring * plane_size) &&
          scratch.product_plane.reserve(pairs * spec.shape[0])))
        return false;
    const float* products = scratch.products.data;
    Planes product[6];
    Term smooth[6];
    for (int p = 0; p < pairs; p++) {
        const float** table = scratch.product_plane.data + p * spec.shape[0];
        // Addressed by absolute positions, like the image itself.
        for (long i = 0; i < spec.shape[0]; i++)
            table[i] = products + (p * ring + i % ring) * plane_size - wide_y.start * stride - wide_x.start;
        product[p] = {table, stride};
        smooth[p] = {p, {tensor.outer.kernel[0], tensor.outer.kernel[1], tensor.outer.kernel[2]}};
    }
    // The caller counts products as if all axes had derivatives.
    lf_result mapped[LF_MOST_TERMS];
    const int full[6][2] = {{0, 0}, {0, 1}, {0, 2}, {1, 1}, {1, 2}, {2, 2}};
    for (int i = 0; i < results; i++) {
        mapped[i] = result[i];
        for (int j = 0; j < mapped[i].inputs; j++)
            if (mapped[i].terms[j] >= 0) mapped[i].terms[j] = slot[full[mapped[i].terms[j]][0]][full[mapped[i].terms[j]][1]];
    }

    Finisher finish(spec, mapped, results);
    if (!finish) return false;
    long ready = max_of(0, z.start - reach[0]);  // products exist up to here
    for (long z0 = z.start; z0 < z.stop; z0 += slab) {
        const Range now = {z0, min_of(z0 + slab, z.stop)};
        const Range fresh = {ready, now.grown(reach[0], spec.shape[0]).stop};
        if (fresh.size() > 0 && count > 0) {
            const bool done = Convolver(spec, &image, derivative, count).run(
                scratch.convolver, fresh, wide_y, wide_x, [&](long zi, long yi, const float* const* rows) {
                    for (int p = 0; p < pairs; p++) {
                        float* out = const_cast<float*>(product[p].plane[zi]) + yi * stride + wide_x.start;
                        const float *a = rows[left[p]], *b = rows[right[p]];
                        for (long x = 0; x < width; x++) out[x] = a[x] * b[x];
                    }
                });
            if (!done) return false;
        }
        ready = max_of(ready, fresh.stop);
        const bool done = Convolver(spec, product, smooth, pairs).run(
            scratch.convolver, now, y, range(spec, 2),
            [&](long zi, long yi, const float* const* rows) { finish(zi, yi, rows); });
        if (!done) return false;
    }
    return true;
}

}  // namespace

extern "C" int LF_NAME(lf_convolve)(const lf_image* image, int32_t terms, const lf_term* term, int32_t results,
                                    const lf_result* result) {
    return convolve(*image, terms, term, results, result) ? 0 : 1;
}

extern "C" int LF_NAME(lf_structure_tensor)(const lf_image* image, const lf_tensor* tensor, int32_t results,
                                            const lf_result* result) {
    return structure_tensor(*image, *tensor, results, result) ? 0 : 1;
}
