// The filters: convolutions of an image, or of products of its derivatives, with a pointwise end.
//
// A filter is a list of terms, each a kernel per axis, and of results made of them.

#include "filters.h"

#include "finisher.h"

#define LF_NAME2(name, build) name##_##build
#define LF_NAME1(name, build) LF_NAME2(name, build)
#define LF_NAME(name) LF_NAME1(name, LF_BUILD)

namespace {

void point_to_planes(const lf_image& spec, const real** plane) {
    for (long z = 0; z < spec.shape[0]; z++) plane[z] = static_cast<const real*>(spec.data) + z * spec.stride[0];
}

int convolve(const lf_image& spec, int count, const lf_term* given, int results, const lf_result* result) {
    Buffer<const real*> plane(spec.shape[0]);
    Finisher finish(spec, result, results);
    if (!(plane && finish)) return LF_NO_MEMORY;
    point_to_planes(spec, plane.data);
    const Planes image = {plane.data, (long)spec.stride[1], true};
    Term terms[LF_MOST_TERMS];
    for (int i = 0; i < count; i++)
        terms[i] = {0, {given[i].kernel[0], given[i].kernel[1], given[i].kernel[2]}};
    Scratch scratch;
    const int code = Convolver(spec, &image, terms, count).run(
        scratch, range(spec, 0), range(spec, 1), range(spec, 2),
        [&](long z, long y, const real* const* rows) { finish(z, y, rows); });
    return code != LF_DONE || finish.finite ? code : LF_NOT_FINITE;
}

// Products of the gradient that are kept at once, where there is a choice.
constexpr long PRODUCT_PIXELS = (1 << 19) / sizeof(real);

struct TensorScratch {
    Scratch convolver;
    Buffer<real> products;
    Buffer<const real*> product_plane;
};

// The products of the gradient are kept for as many planes as the outer smoothing looks at.
int tensor_band(const lf_image& spec, const Planes& image, const lf_tensor& tensor, Range y, int results,
                 const lf_result* result, TensorScratch& scratch);

int structure_tensor(const lf_image& spec, const lf_tensor& tensor, int results, const lf_result* result) {
    Buffer<const real*> plane(spec.shape[0]);
    if (!plane) return LF_NO_MEMORY;
    point_to_planes(spec, plane.data);
    const Planes image = {plane.data, (long)spec.stride[1], true};

    // In bands of rows, so that the products stay in cache, yet high enough for their halo to be a small part.
    const long reach_z = reach_of(spec, tensor.outer.kernel[0]), reach_y = reach_of(spec, tensor.outer.kernel[1]);
    const long per_row = 6 * (2 * reach_z + 1) * (spec.stop[2] - spec.start[2]);
    const long rows = max_of(max_of(32, 8 * reach_y), PRODUCT_PIXELS / max_of(1, per_row));
    const Range all = range(spec, 1);
    TensorScratch scratch;
    int found = LF_DONE;
    for (long y0 = all.start; y0 < all.stop; y0 += rows) {
        const Range band = {y0, min_of(y0 + rows, all.stop)};
        const int code = tensor_band(spec, image, tensor, band, results, result, scratch);
        if (code == LF_NOT_FINITE) found = code;
        else if (code != LF_DONE) return code;
    }
    return found;
}

int tensor_band(const lf_image& spec, const Planes& image, const lf_tensor& tensor, Range y, int results,
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
    const long slab = max_of(1, min_of(min_of(8, z.size()), SLAB_PIXELS / max_of(1, pairs * plane_size)));
    const long ring = min_of(spec.shape[0], slab + 2 * reach[0]);

    if (!(scratch.products.reserve(pairs * ring * plane_size) &&
          scratch.product_plane.reserve(pairs * spec.shape[0])))
        return LF_NO_MEMORY;
    const real* products = scratch.products.data;
    Planes product[6];
    Term smooth[6];
    for (int p = 0; p < pairs; p++) {
        const real** table = scratch.product_plane.data + p * spec.shape[0];
        // Addressed by absolute positions, like the image itself.
        for (long i = 0; i < spec.shape[0]; i++)
            table[i] = products + (p * ring + i % ring) * plane_size - wide_y.start * stride - wide_x.start;
        product[p] = {table, stride, false};
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
    if (!finish) return LF_NO_MEMORY;
    long ready = max_of(0, z.start - reach[0]);  // products exist up to here
    for (long z0 = z.start; z0 < z.stop; z0 += slab) {
        const Range now = {z0, min_of(z0 + slab, z.stop)};
        const Range fresh = {ready, now.grown(reach[0], spec.shape[0]).stop};
        if (fresh.size() > 0 && count > 0) {
            const int code = Convolver(spec, &image, derivative, count).run(
                scratch.convolver, fresh, wide_y, wide_x, [&](long zi, long yi, const real* const* rows) {
                    for (int p = 0; p < pairs; p++) {
                        real* out = const_cast<real*>(product[p].plane[zi]) + yi * stride + wide_x.start;
                        const real *a = rows[left[p]], *b = rows[right[p]];
                        for (long x = 0; x < width; x += LANES) store(out + x, load<vec>(a + x) * load<vec>(b + x));
                    }
                });
            if (code != LF_DONE) return code;
        }
        ready = max_of(ready, fresh.stop);
        const int code = Convolver(spec, product, smooth, pairs).run(
            scratch.convolver, now, y, range(spec, 2),
            [&](long zi, long yi, const real* const* rows) { finish(zi, yi, rows); });
        if (code != LF_DONE) return code;
    }
    return finish.finite ? LF_DONE : LF_NOT_FINITE;
}

}  // namespace

extern "C" int LF_NAME(lf_convolve)(const lf_image* image, int32_t terms, const lf_term* term, int32_t results,
                                    const lf_result* result) {
    return convolve(*image, terms, term, results, result);
}

extern "C" int LF_NAME(lf_structure_tensor)(const lf_image* image, const lf_tensor* tensor, int32_t results,
                                            const lf_result* result) {
    return structure_tensor(*image, *tensor, results, result);
}
