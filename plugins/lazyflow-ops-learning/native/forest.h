// The interface of the library: a C ABI, the same functions once per instruction set.
#pragma once
#include <cstdint>

// Raised whenever a structure or a function changes; Python refuses a library with another number.
#define LL_ABI 1

extern "C" {

// A node that divides asks whether x[feature] < threshold: then the way goes on at child, else at child + 1. A leaf has
// child 0, and votes for the class `row`, or with the shares of that row.
struct LlNode {
    float threshold;
    uint32_t child;
    uint32_t row;
    uint16_t feature;
    uint16_t unused;
};

struct LlForest {
    const LlNode* nodes;
    const uint32_t* roots;   // the first node of each tree
    const float* shares;     // per row of a leaf one share per class; null where leaves vote for one class
    int64_t trees;
    int64_t classes;
};

// Writes the mean votes of samples: out[c * out_stride + i] for sample i, whose features are
// x[f * x_stride + i]. Looks at *stop every few milliseconds. Returns 0, 1 if it was stopped (out is
// garbage then), or 2 if there was no memory.
#define LL_EXPORT __attribute__((visibility("default")))
#define LL_DECLARE(isa)                                                                                      \
    LL_EXPORT int ll_predict_##isa(const LlForest* forest, const float* x, int64_t x_stride, int64_t samples, float* out, \
                         int64_t out_stride, const volatile uint8_t* stop);

LL_DECLARE(generic)
LL_DECLARE(x86_64_v3)

LL_EXPORT int ll_abi(void);
LL_EXPORT const char* ll_best_isa(void);
}
