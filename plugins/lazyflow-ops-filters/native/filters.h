// The C interface of the kernels. Plain data and functions; the caller owns all arrays.
#pragma once

#include <stdint.h>

#define LF_ABI 4

#ifdef _WIN32
#define LF_API __declspec(dllexport)
#else
#define LF_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// How a call ends. What a stopped one has written is garbage. Not finite: done, and some result is no finite number;
// only those for floats look.
enum { LF_DONE = 0, LF_NO_MEMORY = 1, LF_STOPPED = 2, LF_NOT_FINITE = 3 };

enum { LF_MIRROR = 0, LF_REFLECT = 1, LF_NEAREST = 2, LF_ZERO = 3 };

// How rows of terms become rows of results.
enum {
    LF_COPY = 0,        // one term
    LF_DIFFERENCE = 1,  // first term minus second
    LF_SUM = 2,         // any number of terms
    LF_NORM = 3,        // root of the sum of squares
    LF_EIGENVALUES = 4,  // 3 or 6 terms (upper triangle), 2 or 3 results, largest first
    LF_EIGENVALUES_SINGLE = 5,  // the same in single precision
    LF_COPY_WIDE = 6            // one term, written as doubles; of the functions for doubles
};

enum { LF_MOST_TERMS = 32, LF_MOST_INPUTS = 6, LF_MOST_RESULTS = 3 };

// Pixels and weights are floats, or doubles for the functions whose names say so.
typedef struct {
    const void* data;  // pixels along x are adjacent
    int64_t shape[3];  // z y x
    int64_t stride[2];  // of z and y, in pixels
    int64_t start[3];   // the region to compute
    int64_t stop[3];
    int32_t border;  // what lies beyond the image: its edges are where the whole image ends
    int32_t kernels;
    const void* const* weights;  // per kernel, for correlation, 2 * radius + 1 of them
    const int32_t* radius;
    const uint8_t* stop_flag;  // looked at now and then: 1 when the call is to end
} lf_image;

// One separable convolution: a kernel per axis, -1 for none.
typedef struct {
    int32_t kernel[3];
} lf_term;

typedef struct {
    int32_t kind;
    int32_t inputs;                 // number of terms it takes
    int32_t terms[LF_MOST_INPUTS];  // -1 for a term that is zero everywhere
    void* out[LF_MOST_RESULTS];     // first pixel of the region, of floats; NULL if not wanted
    int64_t stride[LF_MOST_RESULTS][3];  // in pixels
} lf_result;

// Structure tensor: products of derivatives, smoothed.
typedef struct {
    lf_term derivative[3];  // kernels of the derivative along each axis; kernel[0] == -2: it is zero
    lf_term outer;
} lf_tensor;

enum { LF_UINT8 = 0, LF_INT8 = 1, LF_UINT16 = 2, LF_INT16 = 3, LF_UINT32 = 4, LF_INT32 = 5, LF_FLOAT32 = 6 };

// The value of a rank among those around each pixel. Floats hold no NaN.
typedef struct {
    const void* data;  // pixels along x are adjacent
    int64_t shape[3];  // z y x
    int64_t stride[2];  // of z and y, in pixels
    int64_t start[3];  // the region to compute
    int64_t stop[3];
    void* out;              // first pixel of the region, of the same type; pixels along x are adjacent
    int64_t out_stride[2];  // in pixels
    const int32_t* reach;   // per row of the neighbourhood, z before y: how far it reaches along x; -1 where it is not
    const uint8_t* stop_flag;
    int32_t radius[3];
    int32_t border, type;
    int32_t rank;  // from 0
} lf_neighborhood;

// Return how the call ended. Any thread may call them; they start none.
#define LF_DECLARE(build)                                                                            \
    LF_API int lf_convolve_##build(const lf_image*, int32_t terms, const lf_term*, int32_t results, \
                                   const lf_result*);                                               \
    LF_API int lf_structure_tensor_##build(const lf_image*, const lf_tensor*, int32_t results,      \
                                           const lf_result*);
#define LF_DECLARE_RANK(isa) LF_API int lf_rank_##isa(const lf_neighborhood*);

LF_DECLARE(generic)
LF_DECLARE(generic_double)
LF_DECLARE(x86_64_v3)
LF_DECLARE(x86_64_v3_double)
LF_DECLARE_RANK(generic)
LF_DECLARE_RANK(x86_64_v3)

LF_API int lf_abi(void);
// The name of the best instruction set that was built and that this processor has.
LF_API const char* lf_best_isa(void);

#ifdef __cplusplus
}
#endif
