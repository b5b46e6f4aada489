// Many samples walk through a tree together.
//
// Neighbouring samples mostly take the same way. So it is not a sample that walks, but a list of groups of eight, each
// with a mask of those that are here. A node divides its list, depth first: it loads the eight values of each
// group, compares them at once, and the group goes on to the left, to the right, or with a part of its mask to both.
// Node and threshold are loaded once for all of the list, and nothing is gathered.
//
// Leaves that vote for one class count in bytes, eight samples by one addition; 255 trees fit, then the bytes are
// added up. Shares are added in double precision, tree by tree, as the numpy predictor does: the same bits.

#include "forest.h"

#include <cstdlib>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define LL_PASTE_(a, b) a##b
#define LL_PASTE(a, b) LL_PASTE_(a, b)

namespace {

constexpr int64_t kGroup = 8;
constexpr int64_t kTile = 4096;  // samples whose features stay in the caches
constexpr int64_t kGroups = kTile / kGroup;
constexpr int64_t kByte = 255;      // trees that a byte can count
constexpr int64_t kTreesPerLook = 16;  // between two looks at the stop flag

// A group and which of its samples are here.
struct Entry {
    uint16_t group;
    uint16_t mask;
};

// A node whose list is still to be divided: it ends where the next one begins.
struct Pending {
    uint32_t node;
    uint32_t begin;
};

// A list that grows; memory is kept from tree to tree.
template <class T>
struct Buffer {
    T* data = nullptr;
    int64_t size = 0;
    ~Buffer() { std::free(data); }
    bool reserve(int64_t wanted) {
        if (wanted <= size) return true;
        const int64_t larger = wanted + wanted / 2;
        void* moved = std::realloc(data, larger * sizeof(T));
        if (!moved) return false;
        data = static_cast<T*>(moved);
        size = larger;
        return true;
    }
};

// Which of eight values are below a threshold; NaN is not.
inline unsigned below(const float* x, float threshold) {
#if defined(__AVX__)
    return _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x), _mm256_set1_ps(threshold), _CMP_LT_OQ));
#elif defined(__SSE2__)
    const __m128 t = _mm_set1_ps(threshold);
    return _mm_movemask_ps(_mm_cmplt_ps(_mm_loadu_ps(x), t)) | _mm_movemask_ps(_mm_cmplt_ps(_mm_loadu_ps(x + 4), t)) << 4;
#else
    unsigned mask = 0;
    for (int i = 0; i < 8; ++i) mask |= unsigned(x[i] < threshold) << i;
    return mask;
#endif
}

// For each mask the word whose bytes are 1 where its bits are.
struct Spread {
    uint64_t word[256];
    Spread() {
        for (int mask = 0; mask < 256; ++mask) {
            uint8_t bytes[8];
            for (int i = 0; i < 8; ++i) bytes[i] = mask >> i & 1;
            std::memcpy(&word[mask], bytes, 8);
        }
    }
};
const Spread spread;

class Predictor {
  public:
    Predictor(const LlForest& forest, const float* x, int64_t x_stride, float* out, int64_t out_stride)
        : forest_(forest), x_(x), x_stride_(x_stride), out_(out), out_stride_(out_stride) {}

    // Samples [first, first + groups * 8).
    int tile(int64_t first, int64_t groups, const volatile uint8_t* stop) {
        const int64_t classes = forest_.classes, samples = groups * kGroup;
        if (!counts_.reserve(classes * kTile) || !votes_.reserve(classes * kTile)) return 2;
        std::memset(votes_.data, 0, classes * kTile * sizeof(double));
        std::memset(counts_.data, 0, classes * kTile);
        for (int64_t tree = 0; tree < forest_.trees; ++tree) {
            if (tree % kTreesPerLook == 0 && *stop) return 1;
            if (!walk(forest_.roots[tree], x_ + first, groups)) return 2;
            if (!forest_.shares && (tree % kByte == kByte - 1 || tree == forest_.trees - 1)) add_up(samples);
        }
        const double trees = double(forest_.trees);
        for (int64_t c = 0; c < classes; ++c)
            for (int64_t i = 0; i < samples; ++i)
                out_[c * out_stride_ + first + i] = float(votes_.data[c * kTile + i] / trees);
        return 0;
    }

    // The few samples behind the last whole group, one by one.
    bool rest(int64_t first, int64_t samples) {
        if (!votes_.reserve(forest_.classes)) return false;
        for (int64_t i = first; i < first + samples; ++i) {
            for (int64_t c = 0; c < forest_.classes; ++c) votes_.data[c] = 0;
            for (int64_t tree = 0; tree < forest_.trees; ++tree) {
                uint32_t at = forest_.roots[tree];
                while (forest_.nodes[at].child) {
                    const LlNode& node = forest_.nodes[at];
                    at = node.child + !(x_[node.feature * x_stride_ + i] < node.threshold);
                }
                const int64_t row = forest_.nodes[at].row;
                if (!forest_.shares) votes_.data[row] += 1;
                else for (int64_t c = 0; c < forest_.classes; ++c) votes_.data[c] += forest_.shares[row * forest_.classes + c];
            }
            for (int64_t c = 0; c < forest_.classes; ++c)
                out_[c * out_stride_ + i] = float(votes_.data[c] / double(forest_.trees));
        }
        return true;
    }

  private:
    bool walk(uint32_t root, const float* x, int64_t groups) {
        if (!lists_.reserve(2 * kGroups) || !pending_.reserve(64)) return false;
        for (int64_t g = 0; g < groups; ++g) lists_.data[g] = {uint16_t(g), 0xff};
        int64_t waiting = 0;
        uint32_t at = root, begin = 0, end = uint32_t(groups);
        for (;;) {
            const LlNode node = forest_.nodes[at];
            if (node.child) {
                const float* column = x + node.feature * x_stride_;
                // To the right stays in place, which reading is always ahead of; to the left goes behind it.
                Entry* const list = lists_.data;
                uint32_t right = begin;
                int64_t left = 0;
                for (uint32_t i = begin; i < end; ++i) {
                    const Entry entry = list[i];
                    const unsigned mask = below(column + entry.group * kGroup, node.threshold);
                    left_[left] = {entry.group, uint16_t(entry.mask & mask)};
                    left += (entry.mask & mask) != 0;
                    list[right] = {entry.group, uint16_t(entry.mask & ~mask)};
                    right += (entry.mask & ~mask) != 0;
                }
                const bool has_right = right > begin;
                if (has_right && left) {
                    if (!pending_.reserve(waiting + 1) || !lists_.reserve(right + 2 * kGroups)) return false;
                    pending_.data[waiting++] = {node.child + 1, begin};
                }
                if (left) {
                    std::memcpy(lists_.data + right, left_, left * sizeof(Entry));
                    at = node.child;
                    begin = right;
                    end = right + uint32_t(left);
                } else {
                    at = node.child + 1;
                    end = right;
                }
                continue;
            }
            vote(node.row, begin, end);
            if (!waiting) return true;
            end = begin;
            at = pending_.data[--waiting].node;
            begin = pending_.data[waiting].begin;
        }
    }

    void vote(uint32_t row, uint32_t begin, uint32_t end) {
        if (!forest_.shares) {
            uint8_t* counts = counts_.data + row * kTile;
            for (uint32_t i = begin; i < end; ++i) {
                const Entry entry = lists_.data[i];
                uint64_t word;
                std::memcpy(&word, counts + entry.group * kGroup, 8);
                word += spread.word[entry.mask];
                std::memcpy(counts + entry.group * kGroup, &word, 8);
            }
            return;
        }
        for (int64_t c = 0; c < forest_.classes; ++c) {
            const double share = forest_.shares[row * forest_.classes + c];
            if (share == 0) continue;
            double* votes = votes_.data + c * kTile;
            for (uint32_t i = begin; i < end; ++i) {
                const Entry entry = lists_.data[i];
                for (int bit = 0; bit < 8; ++bit)
                    if (entry.mask >> bit & 1) votes[entry.group * kGroup + bit] += share;
            }
        }
    }

    void add_up(int64_t samples) {
        for (int64_t c = 0; c < forest_.classes; ++c) {
            for (int64_t i = 0; i < samples; ++i) votes_.data[c * kTile + i] += counts_.data[c * kTile + i];
        }
        std::memset(counts_.data, 0, forest_.classes * kTile);
    }

    const LlForest& forest_;
    const float* x_;
    const int64_t x_stride_;
    float* out_;
    const int64_t out_stride_;
    Buffer<uint8_t> counts_;
    Buffer<double> votes_;
    Buffer<Entry> lists_;
    Buffer<Pending> pending_;
    Entry left_[kGroups + 1];
};

}  // namespace

extern "C" int LL_PASTE(ll_predict_, LL_ISA)(const LlForest* forest, const float* x, int64_t x_stride, int64_t samples,
                                            float* out, int64_t out_stride, const volatile uint8_t* stop) {
    Predictor predictor(*forest, x, x_stride, out, out_stride);
    const int64_t whole = samples / kGroup * kGroup;
    for (int64_t first = 0; first < whole; first += kTile) {
        const int64_t left = whole - first;
        const int failed = predictor.tile(first, (left < kTile ? left : kTile) / kGroup, stop);
        if (failed) return failed;
    }
    return predictor.rest(whole, samples - whole) ? 0 : 2;
}
