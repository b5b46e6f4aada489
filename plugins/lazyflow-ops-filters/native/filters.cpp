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

// Memory for one call. Not std::vector: its code would be shared between the builds by the linker, see
// vector.h, and would need the C++ library at run time.
template <class T>
struct Buffer {
    T* data;
    explicit Buffer(long n) : data(static_cast<T*>(std::malloc((n > 0 ? n : 1) * sizeof(T)))) {}
    Buffer(long n, T value) : Buffer(n) {
        for (long i = 0; data && i < n; i++) data[i] = value;
    }
    ~Buffer() { std::free(data); }
    Buffer(const Buffer&) = delete;
    T& operator[](long i) { return data[i]; }
    explicit operator bool() const { return data; }
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
    bool run(Range z, Range y, Range x, Sink sink) const;
};

// Different (image, kernel along z) of the terms, and different (that, kernel along y).
struct Sharing {
    int z_count = 0, y_count = 0;
    int z_image[LF_MOST_TERMS], z_kernel[LF_MOST_TERMS];
    int y_source[LF_MOST_TERMS], y_kernel[LF_MOST_TERMS];
    int x_source[LF_MOST_TERMS];

    Sharing(const Term* terms, int count) {
        for (int i = 0; i < count; i++) {
            int a = 0, b = 0;
            while (a < z_count && !(z_image[a] == terms[i].image && z_kernel[a] == terms[i].kernel[0])) a++;
            if (a == z_count) {
                z_image[a] = terms[i].image;
                z_kernel[a] = terms[i].kernel[0];
                z_count++;
            }
            while (b < y_count && !(y_source[b] == a && y_kernel[b] == terms[i].kernel[1])) b++;
            if (b == y_count) {
                y_source[b] = a;
                y_kernel[b] = terms[i].kernel[1];
                y_count++;
            }
            x_source[i] = b;
        }
    }
};

// Planes filtered along z at once: they share the planes they read, and all of them should stay in cache.
constexpr long SLAB_FLOATS = 1 << 18;
constexpr long MOST_PLANES = 16;

template <class Sink>
bool Convolver::run(Range z, Range y, Range x, Sink sink) const {
    const Sharing share(terms, count);
    const long ny = spec.shape[1], nx = spec.shape[2], nz = spec.shape[0];
    const long reach_x = reach(2);
    const Range wide_y = y.grown(reach(1), ny), wide_x = x.grown(reach_x, nx);
    const long width = wide_x.size(), plane_size = wide_y.size() * width;
    // A row with room for what lies beyond both ends; position 0 is pixel x.start - reach_x.
    const long row_size = whole_vectors(x.size() + 2 * reach_x);
    const long term_size = whole_vectors(x.size());
    const long planes =
        max_of(1, min_of(min_of(MOST_PLANES, z.size()), SLAB_FLOATS / max_of(1, share.z_count * plane_size)));
    long taps = 1;
    for (int i = 0; i < spec.kernels; i++) taps = max_of(taps, 2 * spec.radius[i] + 1);

    Buffer<float> slab(share.z_count * planes * plane_size);
    Buffer<float> rows(share.y_count * row_size, 0.0f);
    Buffer<float> results(count * term_size, 0.0f);
    Buffer<float> zeros(width, 0.0f);
    Buffer<const float*> from(taps + planes);
    if (!(slab && rows && results && zeros && from)) return false;
    float* term_rows[LF_MOST_TERMS];
    for (int i = 0; i < count; i++) term_rows[i] = results.data + i * term_size;

    for (long z0 = z.start; z0 < z.stop; z0 += planes) {
        const long z1 = min_of(z0 + planes, z.stop);

        for (int s = 0; s < share.z_count; s++) {
            const Planes& image = images[share.z_image[s]];
            const int k = share.z_kernel[s];
            if (k < 0) continue;
            const long r = spec.radius[k], n = 2 * r + 1;
            for (long row = 0; row < wide_y.size(); row++) {
                const long offset = (wide_y.start + row) * image.stride + wide_x.start;
                // A piece of the row at a time: its pixels from all planes then stay in the first cache.
                for (long x0 = 0; x0 < width; x0 += 64) {
                    // The last piece is not left shorter than a vector where the row is longer.
                    long piece = width - x0 < 128 ? width - x0 : 64;
                    for (long i = 0; i < n + z1 - z0 - 1; i++) {
                        const long source = beyond(z0 - r + i, nz, spec.border);
                        from[i] = source < 0 ? zeros.data : image.plane[source] + offset + x0;
                    }
                    for (long p = 0; p < z1 - z0; p++) {
                        float* out = slab.data + (s * planes + p) * plane_size + row * width + x0;
                        weighted_sum(from.data + p, spec.weights[k], n, out, piece);
                    }
                    if (piece != 64) break;
                }
            }
        }

        for (long zi = z0; zi < z1; zi++) {
            for (long yi = y.start; yi < y.stop; yi++) {
                for (int s = 0; s < share.y_count; s++) {
                    const int a = share.y_source[s], k = share.y_kernel[s];
                    const float* base;  // row 0, pixel wide_x.start
                    long stride;
                    if (share.z_kernel[a] < 0) {
                        const Planes& image = images[share.z_image[a]];
                        base = image.plane[zi] + wide_x.start;
                        stride = image.stride;
                    } else {
                        base = slab.data + (a * planes + zi - z0) * plane_size - wide_y.start * width;
                        stride = width;
                    }
                    const long before = wide_x.start - (x.start - reach_x);  // pixels beyond the image
                    float* row = rows.data + s * row_size;
                    if (k < 0) {
                        std::memcpy(row + before, base + yi * stride, width * sizeof(float));
                    } else {
                        const long r = spec.radius[k];
                        for (long j = 0; j <= 2 * r; j++) {
                            const long source = beyond(yi - r + j, ny, spec.border);
                            from[j] = source < 0 ? zeros.data : base + source * stride;
                        }
                        weighted_sum(from.data, spec.weights[k], 2 * r + 1, row + before, width);
                    }
                    for (long i = 0; i < x.size() + 2 * reach_x; i++) {
                        if (i == before) i += width;
                        if (i >= x.size() + 2 * reach_x) break;
                        const long source = beyond(x.start - reach_x + i, nx, spec.border);
                        row[i] = source < 0 ? 0.0f : row[source - x.start + reach_x];
                    }
                }
                for (int t = 0; t < count; t++) {
                    const float* row = rows.data + share.x_source[t] * row_size + reach_x;
                    const int k = terms[t].kernel[2];
                    if (k < 0) {
                        std::memcpy(term_rows[t], row, x.size() * sizeof(float));
                        continue;
                    }
                    const long r = spec.radius[k];
                    for (long j = 0; j <= 2 * r; j++) from[j] = row - r + j;
                    weighted_sum(from.data, spec.weights[k], 2 * r + 1, term_rows[t], x.size());
                }
                sink(zi, yi, term_rows);
            }
        }
    }
    return true;
}

// Turns rows of terms into rows of results.
struct Finisher {
    const lf_image& spec;
    const lf_result* results;
    int count;
    long n;
    Buffer<float> zeros, values;

    Finisher(const lf_image& spec, const lf_result* results, int count)
        : spec(spec), results(results), count(count), n(whole_vectors(spec.stop[2] - spec.start[2])),
          zeros(n, 0.0f), values(LF_MOST_RESULTS * n, 0.0f) {}

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
            }
            for (int j = 0; j < LF_MOST_RESULTS; j++)
                if (result.out[j]) write(result.out[j], result.stride[j], z, y, source[j]);
        }
    }

    void write(float* out, const int64_t* stride, long z, long y, const float* row) const {
        out += (z - spec.start[0]) * stride[0] + (y - spec.start[1]) * stride[1];
        const long length = spec.stop[2] - spec.start[2];
        if (stride[2] == 1) {
            std::memcpy(out, row, length * sizeof(float));
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
    return Convolver{spec, &image, terms, count}.run(
        range(spec, 0), range(spec, 1), range(spec, 2),
        [&](long z, long y, float* const* rows) { finish(z, y, rows); });
}

// Products of the gradient that are kept at once, in floats, where there is a choice.
constexpr long PRODUCT_FLOATS = 1 << 19;

// The products of the gradient are kept for as many planes as the outer smoothing looks at.
bool tensor_band(const lf_image& spec, const Planes& image, const lf_tensor& tensor, Range y, int results,
                 const lf_result* result);

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
    for (long y0 = all.start; y0 < all.stop; y0 += rows)
        if (!tensor_band(spec, image, tensor, {y0, min_of(y0 + rows, all.stop)}, results, result)) return false;
    return true;
}

bool tensor_band(const lf_image& spec, const Planes& image, const lf_tensor& tensor, Range y, int results,
                 const lf_result* result) {
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
    const long width = wide_x.size(), plane_size = wide_y.size() * width;
    const long slab = max_of(1, min_of(min_of(8, z.size()), SLAB_FLOATS / max_of(1, pairs * plane_size)));
    const long ring = min_of(spec.shape[0], slab + 2 * reach[0]);

    Buffer<float> products(pairs * ring * plane_size);
    Buffer<const float*> product_plane(pairs * spec.shape[0]);
    if (!(products && product_plane)) return false;
    Planes product[6];
    Term smooth[6];
    for (int p = 0; p < pairs; p++) {
        const float** table = product_plane.data + p * spec.shape[0];
        // Addressed by absolute positions, like the image itself.
        for (long i = 0; i < spec.shape[0]; i++)
            table[i] = products.data + (p * ring + i % ring) * plane_size - wide_y.start * width - wide_x.start;
        product[p] = {table, width};
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
                fresh, wide_y, wide_x, [&](long zi, long yi, float* const* rows) {
                    for (int p = 0; p < pairs; p++) {
                        float* out = const_cast<float*>(product[p].plane[zi]) + yi * width + wide_x.start;
                        const float *a = rows[left[p]], *b = rows[right[p]];
                        for (long x = 0; x < width; x++) out[x] = a[x] * b[x];
                    }
                });
            if (!done) return false;
        }
        ready = max_of(ready, fresh.stop);
        const bool done = Convolver{spec, product, smooth, pairs}.run(
            now, y, range(spec, 2),
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
