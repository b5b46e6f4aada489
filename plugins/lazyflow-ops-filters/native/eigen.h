// Eigenvalues of symmetric 2x2 and 3x3 matrices, one per pixel, in closed form.
//
// The eigenvalues of a traceless 3x3 matrix are 2p cos(acos(r)/3 + k 2pi/3) with r = det / 2p^3. With |r| the
// one that stands apart is 2p cos(acos|r|/3); det tells on which side it stands, and the other two follow
// from the sine. Both cos(acos(r)/3) and sin(acos(r)/3)^2 / (1 - r) are smooth for 0 <= r <= 1, so
// polynomials in t = 2r - 1 replace the trigonometry. kernels/eigen.py does the same in numpy.
#pragma once

#include "vector.h"

namespace {

// Chebyshev interpolation of degree 9, error below 3e-10.
constexpr double COSINE[] = {
    0.939692620597176, 0.06582180732712553, -0.00643140456706861,
    0.0011066522267753984, -0.00023371997222074728, 5.4936052077107774e-05,
    -1.3586240218543824e-05, 3.563930830807748e-06, -1.2077191186676828e-06,
    3.3851107446025707e-07,
};
constexpr double SQUARED_SINE[] = {
    0.23395555696767495, -0.01345350946712821, 0.0020556746694725013,
    -0.00041067255782572393, 9.34851592771846e-05, -2.298458985988128e-05,
    5.851255612743246e-06, -1.5682718899512342e-06, 5.429642200738271e-07,
    -1.5397444244058534e-07,
};

LF_INLINE v4d widen(const float* p) { return __builtin_convertvector(load<v4f>(p), v4d); }
LF_INLINE void narrow(float* p, v4d v) { store(p, __builtin_convertvector(v, v4f)); }

// Even and odd powers apart: two chains of multiply-adds of half the length run side by side.
LF_INLINE v4d polynomial(const double (&c)[10], v4d t) {
    const v4d square = t * t;
    v4d even = c[8] - (v4d){}, odd = c[9] - (v4d){};
#pragma GCC unroll 4
    for (int i = 6; i >= 0; i -= 2) {
        even = fma(even, square, c[i] - (v4d){});
        odd = fma(odd, square, c[i + 1] - (v4d){});
    }
    return fma(odd, t, even);
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
