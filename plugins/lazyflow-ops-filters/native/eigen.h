// Eigenvalues of symmetric 2x2 and 3x3 matrices, one per pixel, in closed form.
//
// The eigenvalues of a traceless 3x3 matrix are 2p cos(acos(r)/3 + k 2pi/3) with r = det / 2p^3. With |r| the
// one that stands apart is 2p cos(acos|r|/3); det tells on which side it stands, and the other two follow
// from the sine. Both cos(acos(r)/3) and sin(acos(r)/3)^2 / (1 - r) are smooth for 0 <= r <= 1, so
// polynomials in t = 2r - 1 replace the trigonometry. kernels/eigen.py does the same in numpy.
#pragma once

#include "vector.h"

namespace {

// Chebyshev interpolation of degree 13, error below 2e-13.
constexpr double COSINE[] = {
    0.9396926207858118,     0.06582180727247963,    -0.006431413978177131,  0.001106654952949802,
    -0.00023364543072793405, 5.491446452764963e-05,  -1.379037789384085e-05, 3.6230170318206165e-06,
    -9.860699056015877e-07, 2.744419812675655e-07,  -7.403984422385938e-08, 2.1288534363910514e-08,
    -8.996932722636432e-09, 2.6702439624516826e-09,
};
constexpr double SQUARED_SINE[] = {
    0.23395555688106806,    -0.013453509441845719,  0.0020556789901457046,  -0.00041067381904441304,
    9.345094243916132e-05,  -2.2974604139998574e-05, 5.944928006191524e-06,  -1.595594912174651e-06,
    4.413420549655355e-07,  -1.2436894840967793e-07, 3.383285270989028e-08,  -9.808407038950203e-09,
    4.1944921187158406e-09, -1.2515783964772709e-09,
};

LF_INLINE v4d widen(const float* p) { return __builtin_convertvector(load<v4f>(p), v4d); }
LF_INLINE void narrow(float* p, v4d v) { store(p, __builtin_convertvector(v, v4f)); }

LF_INLINE v4d polynomial(const double (&c)[14], v4d t) {
    v4d sum = c[13] - (v4d){};
#pragma GCC unroll 13
    for (int i = 12; i >= 0; i--) sum = fma(sum, t, c[i] - (v4d){});
    return sum;
}

LF_INLINE v4d magnitude(v4d a) { return (v4d)((v4l)a & INT64_MAX); }

// tensor: a00 a01 a11. Largest eigenvalue first. n is a multiple of 8; results may not be rows of the tensor.
void row_eigenvalues2(const float* const* tensor, float* const* out, long n) {
    for (long x = 0; x < n; x += 4) {
        v4d a = widen(tensor[0] + x), b = widen(tensor[1] + x), d = widen(tensor[2] + x);
        v4d mean = (a + d) * 0.5, half = (a - d) * 0.5;
        v4d spread = root(half * half + b * b);
        narrow(out[0] + x, mean + spread);
        narrow(out[1] + x, mean - spread);
    }
}

// tensor: a00 a01 a02 a11 a12 a22.
void row_eigenvalues3(const float* const* tensor, float* const* out, long n) {
    const v4d one = 1.0 - (v4d){};
    for (long x = 0; x < n; x += 4) {
        v4d a = widen(tensor[0] + x), b = widen(tensor[1] + x), c = widen(tensor[2] + x);
        v4d d = widen(tensor[3] + x), e = widen(tensor[4] + x), f = widen(tensor[5] + x);
        v4d mean = (a + d + f) * (1.0 / 3.0);
        a -= mean;
        d -= mean;
        f -= mean;
        v4d p2 = (a * a + d * d + f * f + 2.0 * (b * b + c * c + e * e)) * (1.0 / 6.0);
        v4d p = root(p2);
        v4d half_det = 0.5 * (a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d));
        v4d cube = p2 * p;
        // Comparisons with NaN are false, so a NaN stays one.
        v4d r = magnitude(half_det) / (cube == 0.0 ? one : cube);
        r = r > 1.0 ? one : r;
        v4d t = 2.0 * r - 1.0;
        v4d cosine = p * polynomial(COSINE, t);
        v4d sine = p * root(3.0 * magnitude(polynomial(SQUARED_SINE, t) * (1.0 - r)));
        v4d apart = 2.0 * cosine, upper = sine - cosine, lower = -sine - cosine;
        v4l falls = half_det < 0.0;
        narrow(out[0] + x, mean + (falls ? -lower : apart));
        narrow(out[1] + x, mean + (falls ? -upper : upper));
        narrow(out[2] + x, mean + (falls ? -apart : lower));
    }
}

}  // namespace
