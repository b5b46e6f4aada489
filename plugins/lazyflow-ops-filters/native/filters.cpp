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

// Memory for one call, kept from one step of it to the next. Not std::vector: its code would be shared between the
// builds by the linker, see vector.h, and would need the C++ library at run time.
template <class T>
struct Buffer {
    T* data = nullptr;
    long size = 0;

    Buffer() = default;
    explicit Buffer(long n) { reserve(n); }
    ~Buffer() { std::free(data); }
    Buffer(const Buffer&) = delete;
    T& operator[](long i) { return data[i]; }
    explicit operator bool() const { return data; }

    // Return whether there is room for n; what was in it is lost.
    bool reserve(long n) {
        if (n <= size) return true;
        std::free(data);
        data = static_cast<T*>(std::malloc(n * sizeof(T)));
        size = data ? n : 0;
        return data;
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
        int source, count;
        int member[MOST_SHARED];  // the widest kernel first
    };
    int count = 0, groups = 0;
    int source[LF_MOST_TERMS], kernel[LF_MOST_TERMS];
    Group group[LF_MOST_TERMS];

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
            int g = 0;
            while (g < groups && !(group[g].source == source[i] && group[g].count < MOST_SHARED)) g++;
            if (g == groups) group[groups++] = {source[i], 0, {}};
            int at = group[g].count++;
            int* member = group[g].member;
            for (; at > 0 && spec.radius[kernel[member[at - 1]]] < spec.radius[kernel[i]]; at--)
                member[at] = member[at - 1];
            member[at] = i;
        }
    }

    Kernels kernels(const lf_image& spec, const Group& g) const {
        Kernels result;
        result.count = g.count;
        for (int m = 0; m < g.count; m++) {
            result.weights[m] = spec.weights[kernel[g.member[m]]];
            result.radius[m] = spec.radius[kernel[g.member[m]]];
        }
        return result;
    }
};

struct Scratch {
    Buffer<float> slab, rows, results, zeros;
    Buffer<const float*> from, planes;
};

// Convolutions of some images of one shape.
struct Convolver {
    const lf_image& spec;
    const Planes* images;
    const Term* terms;
    int count;

    long reach(int axis) const {
        long widest = 0;
        for (int i = 0; i < count; i++)
            widest = max_of(widest, reach_of(spec, terms[i].kernel[axis]));
        return widest;
    }

    // Compute a box and call sink(z, y, rows): one row per term, of x.size() pixels padded to whole vectors.
    // Return false if memory ran out.
    template <class Sink>
    bool run(Scratch& scratch, Range z, Range y, Range x, Sink sink) const;
};

// Planes filtered along z at once: they share the planes they read, and all of them should stay in cache.
constexpr long SLAB_FLOATS = 1 << 18;
constexpr long MOST_PLANES = 16;

// A distance between rows, or planes, that does not put the same pixels of all of them into the same few places of
// the cache, as powers of two do.
inline long spread(long n) { return whole_vectors(n) + (whole_vectors(n) % 128 == 0 ? 16 : 0); }

template <class Sink>
bool Convolver::run(Scratch& scratch, Range z, Range y, Range x, Sink sink) const {
    Pass along_z, along_y, along_x;
    int term[LF_MOST_TERMS];
    for (int i = 0; i < count; i++) {
        const int a = along_z.add(terms[i].image, terms[i].kernel[0]);
        const int b = along_y.add(a, terms[i].kernel[1]);
        term[i] = along_x.add(b, terms[i].kernel[2]);
    }
    along_z.make_groups(spec);
    along_y.make_groups(spec);
    along_x.make_groups(spec);

    const long ny = spec.shape[1], nx = spec.shape[2], nz = spec.shape[0];
    const long reach_x = reach(2);
    const Range wide_y = y.grown(reach(1), ny), wide_x = x.grown(reach_x, nx);
    const long width = wide_x.size(), stride = spread(width), plane_size = spread(wide_y.size() * stride);
    // A row with room for what lies beyond both ends; position 0 is pixel x.start - reach_x.
    const long row_size = whole_vectors(x.size() + 2 * reach_x);
    const long term_size = whole_vectors(x.size());
    const long planes =
        max_of(1, min_of(min_of(MOST_PLANES, z.size()), SLAB_FLOATS / max_of(1, along_z.count * plane_size)));
    long taps = 1;
    for (int i = 0; i < spec.kernels; i++) taps = max_of(taps, 2 * spec.radius[i] + 1);

    if (!(scratch.slab.reserve(along_z.count * planes * plane_size) &&
          scratch.rows.reserve(along_y.count * row_size) && scratch.results.reserve(along_x.count * term_size) &&
          scratch.zeros.reserve(width) && scratch.from.reserve(taps + planes) && scratch.planes.reserve(taps + planes)))
        return false;
    // Whole vectors are computed of rows, and what stands behind their end must be numbers.
    scratch.rows.fill(0.0f);
    scratch.results.fill(0.0f);
    scratch.zeros.fill(0.0f);
    float *const slab = scratch.slab.data, *const rows = scratch.rows.data, *const results = scratch.results.data;
    const float** const from = scratch.from.data;
    const float** const source_planes = scratch.planes.data;
    float* term_rows[LF_MOST_TERMS];
    for (int i = 0; i < count; i++) term_rows[i] = results + term[i] * term_size;

    for (long z0 = z.start; z0 < z.stop; z0 += planes) {
        const long z1 = min_of(z0 + planes, z.stop);

        for (int g = 0; g < along_z.groups; g++) {
            const Pass::Group& group = along_z.group[g];
            const Planes& image = images[group.source];
            Kernels kernels = along_z.kernels(spec, group);
            const long r = kernels.radius[0], n = 2 * r + 1;
            for (long i = 0; i < n + z1 - z0 - 1; i++) {
                const long source = beyond(z0 - r + i, nz, spec.border);
                source_planes[i] = source < 0 ? nullptr : image.plane[source];
            }
            for (long row = 0; row < wide_y.size(); row++) {
                const long offset = (wide_y.start + row) * image.stride + wide_x.start;
                // A piece of the row at a time: its pixels from all planes then stay in the first cache.
                for (long x0 = 0; x0 < width; x0 += 64) {
                    // The last piece is not left shorter than a vector where the row is longer.
                    const long piece = width - x0 < 128 ? width - x0 : 64;
                    for (long i = 0; i < n + z1 - z0 - 1; i++)
                        from[i] = source_planes[i] ? source_planes[i] + offset + x0 : scratch.zeros.data;
                    for (long p = 0; p < z1 - z0; p++) {
                        for (int m = 0; m < group.count; m++)
                            kernels.out[m] =
                                slab + (group.member[m] * planes + p) * plane_size + row * stride + x0;
                        weighted_sums(kernels, Anywhere{from + p}, piece);
                    }
                    if (piece != 64) break;
                }
            }
        }

        for (long zi = z0; zi < z1; zi++) {
            for (long yi = y.start; yi < y.stop; yi++) {
                const long before = wide_x.start - (x.start - reach_x);  // pixels beyond the image
                // Row 0, pixel wide_x.start, of a result of the pass along z; and the distance of rows.
                const auto plane = [&](int a, long* distance) {
                    if (along_z.kernel[a] < 0) {
                        const Planes& image = images[along_z.source[a]];
                        *distance = image.stride;
                        return image.plane[zi] + wide_x.start;
                    }
                    *distance = stride;
                    return (const float*)slab + (a * planes + zi - z0) * plane_size - wide_y.start * stride;
                };
                long distance;
                for (int i = 0; i < along_y.count; i++)
                    if (along_y.kernel[i] < 0) {
                        const float* base = plane(along_y.source[i], &distance);
                        std::memcpy(rows + i * row_size + before, base + yi * distance, width * sizeof(float));
                    }
                for (int g = 0; g < along_y.groups; g++) {
                    const Pass::Group& group = along_y.group[g];
                    Kernels kernels = along_y.kernels(spec, group);
                    const float* base = plane(group.source, &distance);
                    const long r = kernels.radius[0];
                    for (long j = 0; j <= 2 * r; j++) {
                        const long source = beyond(yi - r + j, ny, spec.border);
                        from[j] = source < 0 ? scratch.zeros.data : base + source * distance;
                    }
                    for (int m = 0; m < group.count; m++)
                        kernels.out[m] = rows + group.member[m] * row_size + before;
                    weighted_sums(kernels, Anywhere{from}, width);
                }
                for (long i = 0; i < x.size() + 2 * reach_x; i++) {
                    if (i == before) i += width;
                    if (i >= x.size() + 2 * reach_x) break;
                    const long source = beyond(x.start - reach_x + i, nx, spec.border);
                    for (int s = 0; s < along_y.count; s++) {
                        float* row = rows + s * row_size;
                        row[i] = source < 0 ? 0.0f : row[source - x.start + reach_x];
                    }
                }
                for (int i = 0; i < along_x.count; i++)
                    if (along_x.kernel[i] < 0)
                        std::memcpy(results + i * term_size, rows + along_x.source[i] * row_size + reach_x,
                                    x.size() * sizeof(float));
                for (int g = 0; g < along_x.groups; g++) {
                    const Pass::Group& group = along_x.group[g];
                    Kernels kernels = along_x.kernels(spec, group);
                    for (int m = 0; m < group.count; m++) kernels.out[m] = results + group.member[m] * term_size;
                    const float* row = rows + group.source * row_size + reach_x - kernels.radius[0];
                    weighted_sums(kernels, Moved{row}, x.size());
                }
                sink(zi, yi, term_rows);
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

    void operator()(long z, long y, float* const* terms) {
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
    return Convolver{spec, &image, terms, count}.run(
        scratch, range(spec, 0), range(spec, 1), range(spec, 2),
        [&](long z, long y, float* const* rows) { finish(z, y, rows); });
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
            const bool done = Convolver{spec, &image, derivative, count}.run(
                scratch.convolver, fresh, wide_y, wide_x, [&](long zi, long yi, float* const* rows) {
                    for (int p = 0; p < pairs; p++) {
                        float* out = const_cast<float*>(product[p].plane[zi]) + yi * stride + wide_x.start;
                        const float *a = rows[left[p]], *b = rows[right[p]];
                        for (long x = 0; x < width; x++) out[x] = a[x] * b[x];
                    }
                });
            if (!done) return false;
        }
        ready = max_of(ready, fresh.stop);
        const bool done = Convolver{spec, product, smooth, pairs}.run(
            scratch.convolver, now, y, range(spec, 2),
            [&](long zi, long yi, float* const* rows) { finish(zi, yi, rows); });
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
