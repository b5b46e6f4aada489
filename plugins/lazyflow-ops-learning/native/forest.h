// The interface of the library: a C ABI, the same functions once per instruction set.
#pragma once
#include <cstdint>

// Raised whenever a structure or a function changes; Python refuses a library with another number.
#define LL_ABI 2

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

// Samples to train with. The code of a feature says in which of its intervals a value lies.
struct LlSamples {
    const void* codes;      // codes[f * stride + i] of sample i: uint8_t, or uint16_t where wide
    const uint8_t* labels;  // per sample its class
    int64_t stride;
    int64_t samples;        // below 2^31
    int64_t features;       // up to 65535
    int64_t classes;        // up to 255
    int64_t codes_end;      // all codes are below it
    int32_t wide;
};

struct LlGrowing {
    uint64_t seed;
    int64_t features_per_split;   // tried, at least; more until one of them splits
    int64_t smallest_leaf;        // draws on either side of a split, at least 1
    const double* class_weights;  // positive
    uint16_t* votes;              // votes[i * classes + c], added to for samples that were not drawn; or null
    int32_t bootstrap;
};

// A tree. Numbers of nodes count from its root; the caller begins with zeros, but for `importance`, which is the
// caller's: per feature the purity it has brought, added to. All else goes with ll_free_tree, also after a failure.
struct LlTree {
    int64_t nodes;
    uint16_t* feature;
    uint16_t* cut;          // codes up to it go to the child, others to the one behind it
    uint32_t* child;        // 0 for leaves
    uint8_t* label;         // of a leaf its class of most weight
    int64_t mixed;          // leaves with samples of several classes
    uint32_t* mixed_node;
    uint32_t* mixed_drawn;  // [leaf * classes + c]: how often samples of that class were drawn
    double* importance;
};

// Writes the mean votes of samples: out[c * out_stride + i] for sample i, whose features are
// x[f * x_stride + i]. Looks at *stop every few milliseconds. Returns 0, 1 if it was stopped (out is
// garbage then), or 2 if there was no memory.
#define LL_EXPORT __attribute__((visibility("default")))
#define LL_DECLARE(isa)                                                                                      \
    LL_EXPORT int ll_predict_##isa(const LlForest* forest, const float* x, int64_t x_stride, int64_t samples, float* out, \
                         int64_t out_stride, const volatile uint8_t* stop);                              \
    /* Grows a tree; returns as ll_predict does. Any number may grow at the same time. */               \
    LL_EXPORT int ll_grow_##isa(const LlSamples* samples, const LlGrowing* how, uint64_t tree, LlTree* out, \
                                const volatile uint8_t* stop);

LL_DECLARE(generic)
LL_DECLARE(x86_64_v3)

LL_EXPORT void ll_free_tree(LlTree* tree);
LL_EXPORT int ll_abi(void);
LL_EXPORT const char* ll_best_isa(void);
}
