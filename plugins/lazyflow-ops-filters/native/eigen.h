// Eigenvalues of symmetric 2x2 and 3x3 matrices, one per pixel, in closed form.
//
// The eigenvalues of a traceless 3x3 matrix are 2p cos(acos(r)/3 + k 2pi/3) with r = det / 2p^3. With |r| the
// one that stands apart is 2p cos(acos|r|/3); det tells on which side it stands, and the other two follow
// from the sine. Both cos(acos(r)/3) and sin(acos(r)/3)^2 / (1 - r) are smooth for 0 <= r <= 1, so
// polynomials in t = 2r - 1 replace the trigonometry. kernels/eigen.py does the same in numpy.
//
// Digits are lost in two places only: where the mean is taken off, and in 1 - r, whose root the lower two
// eigenvalues depend on. There the default works in double precision, 4 pixels at a time; from p, r and 1 - r on
// floats hold all the digits that a float result has, 8 pixels at a time. `Single` works in floats throughout.
#pragma once

#include "vector.h"

namespace {

// Chebyshev interpolation of degree 7, error below 3e-8.
constexpr float COSINE[] = {
    0.9396926298395525f, 0.06582180473842934f, -0.006431702981778975f, 0.0011067358354071022f,
    -0.00023221975488363356f, 5.451564814684673e-05f, -1.5995367312449105e-05f, 4.239122752380808e-06f,
};
constexpr float SQUARED_SINE[] = {
    0.23395555281437508f, -0.0134535082900815f, 0.002055808795852003f, -0.0004107105797327981f,
    9.281078685119404e-05f, -2.279338775423856e-05f, 6.934284564996673e-06f, -1.875373550674908e-06f,
};

LF_INLINE v4d widen(const float* p) { return __builtin_convertvector(load<v4f>(p), v4d); }
LF_INLINE v4d widen(const double* p) { return load<v4d>(p); }
LF_INLINE void narrow(float* p, v4d v) { store(p, __builtin_convertvector(v, v4f)); }

// Even and odd powers apart: two chains of multiply-adds of half the length run side by side.
LF_INLINE v8f polynomial(const float (&c)[8], v8f t) {
    const v8f square = t * t;
    v8f even = c[6] - (v8f){}, odd = c[7] - (v8f){};
#pragma GCC unroll 3
    for (int i = 4; i >= 0; i -= 2) {
        even = fma(even, square, c[i] - (v8f){});
        odd = fma(odd, square, c[i + 1] - (v8f){});
    }
    return fma(odd, t, even);
}

LF_INLINE v8f with_sign(v8f a, v8f of) { return (v8f)((v8i)a ^ ((v8i)of & INT32_MIN)); }

// tensor: a00 a01 a11. Largest eigenvalue first. n is a multiple of 8; results may not be rows of the tensor.
void row_eigenvalues2(const real* const* tensor, float* const* out, long n) {
    for (long x = 0; x < n; x += 4) {
        v4d a = widen(tensor[0] + x), b = widen(tensor[1] + x), d = widen(tensor[2] + x);
        v4d mean = (a + d) * 0.5, half = (a - d) * 0.5;
        v4d spread = root(half * half + b * b);
        narrow(out[0] + x, mean + spread);
        narrow(out[1] + x, mean - spread);
    }
}

// What the eigenvalues of a 3x3 matrix follow from: the mean of its diagonal; p; r with the sign of the
// determinant; 1 - |r|, which may be negative by rounding.
template <class V>
struct Shape {
    V mean, p, r, rest;
};

template <class V>
LF_INLINE Shape<V> shape_of(V a, V b, V c, V d, V e, V f) {
    const V one = 1.0f - (V){};
    const V mean = (a + d + f) * ((typename Lane<V>::type)1 / 3);
    a -= mean;
    d -= mean;
    f -= mean;
    const V p2 = fma(a, a, fma(d, d, f * f)) * ((typename Lane<V>::type)1 / 6) +
                 fma(b, b, fma(c, c, e * e)) * ((typename Lane<V>::type)1 / 3);
    const V p = root(p2);
    const V minor_a = fma(d, f, -(e * e)), minor_b = fma(b, f, -(c * e)), minor_c = fma(b, e, -(c * d));
    const V half_det = fma(a, minor_a, fma(c, minor_c, -(b * minor_b))) * 0.5f;
    const V cube = p2 * p;
    const V inverse = one / (cube == 0.0f ? one : cube);
    return {mean, p, half_det * inverse, (cube - magnitude(half_det)) * inverse};
}

// The same for some pixels. Finding them and what follows from them are loops of their own: each waits long for its
// roots and quotients, and the shorter its body, the more pixels are on their way at once.
constexpr long FEW = 64;
struct Shapes {
    float mean[FEW], p[FEW], r[FEW], rest[FEW];

    LF_INLINE_MEMBER void put(long x, const Shape<v8f>& s) {
        store(mean + x, s.mean);
        store(p + x, s.p);
        store(r + x, s.r);
        store(rest + x, s.rest);
    }
    LF_INLINE_MEMBER void put(long x, const Shape<v4d>& s) {
        narrow(mean + x, s.mean);
        narrow(p + x, s.p);
        narrow(r + x, s.r);
        narrow(rest + x, s.rest);
    }

    LF_INLINE_MEMBER void write_eigenvalues(float* const* out, long x0, long n) const {
        const v8f one = 1.0f - (v8f){}, zero = {};
        for (long x = 0; x < n; x += 8) {
            const v8f side = load<v8f>(r + x), center = load<v8f>(mean + x), scale = load<v8f>(p + x);
            // A NaN as the second argument stays one.
            const v8f t = 2.0f * smaller(one, magnitude(side)) - 1.0f;
            const v8f cosine = scale * polynomial(COSINE, t);
            const v8f sine = scale * root(3.0f * larger(zero, load<v8f>(rest + x)) * polynomial(SQUARED_SINE, t));
            // With the sign of r, the one that stands apart is the largest or the smallest.
            const v8f apart = with_sign(2.0f * cosine, side), lower = with_sign(-sine - cosine, side);
            store(out[0] + x0 + x, center + larger(apart, lower));
            store(out[1] + x0 + x, center + with_sign(sine - cosine, side));
            store(out[2] + x0 + x, center + smaller(apart, lower));
        }
    }
};

// tensor: a00 a01 a02 a11 a12 a22.
void row_eigenvalues3(const real* const* t, float* const* out, long n) {
    Shapes shapes;
    for (long x0 = 0; x0 < n; x0 += FEW) {
        const long few = n - x0 < FEW ? n - x0 : FEW;
        for (long x = 0; x < few; x += 4) {
            const long k = x0 + x;
            shapes.put(x, shape_of(widen(t[0] + k), widen(t[1] + k), widen(t[2] + k), widen(t[3] + k),
                                   widen(t[4] + k), widen(t[5] + k)));
        }
        shapes.write_eigenvalues(out, x0, few);
    }
}

// The same in single precision; pixels in double precision are worth their own.
void row_eigenvalues3_single(const real* const* t, float* const* out, long n) {
#ifdef LF_DOUBLE
    row_eigenvalues3(t, out, n);
#else
    Shapes shapes;
    for (long x0 = 0; x0 < n; x0 += FEW) {
        const long few = n - x0 < FEW ? n - x0 : FEW;
        for (long x = 0; x < few; x += 8) {
            v8f m[6], largest = {};
            for (int i = 0; i < 6; i++) {
                m[i] = load<v8f>(t[i] + x0 + x);
                largest = larger(largest, magnitude(m[i]));
            }
            // The third power of p would leave the range of floats where the image is faint.
            const Scale scale = scale_of(largest);
            for (int i = 0; i < 6; i++) m[i] *= scale.to_one;
            Shape<v8f> shape = shape_of(m[0], m[1], m[2], m[3], m[4], m[5]);
            shape.mean *= scale.back;
            shape.p *= scale.back;
            shapes.put(x, shape);
        }
        shapes.write_eigenvalues(out, x0, few);
    }
#endif
}

}  // namespace
