// One tree, from samples whose features are codes.
//
// A node counts its samples per code and class, and marks in a set of bits which codes occur; going through the bits
// gives the codes in order, so a small node costs as much as it has samples. The tree grows depth first: what waits
// is a stack of nodes with their parts of one list of samples, which each node divides.
//
// Everything that decides is a whole number, or is computed in one order and without fused operations (see
// CMakeLists.txt), so every build grows the same tree, and so does lazyflow_ops_learning/numpy_trainer.py.

#include "forest.h"

#include <cstdlib>
#include <cstring>

#define LL_PASTE_(a, b) a##b
#define LL_PASTE(a, b) LL_PASTE_(a, b)

namespace {

constexpr int64_t kLook = 1 << 16;  // samples between two looks at the stop flag

enum Outcome { kDone = 0, kStopped = 1, kNoMemory = 2 };

template <class T>
struct Array {
    T* data = nullptr;
    int64_t size = 0;
    ~Array() { std::free(data); }
    bool reserve(int64_t wanted) {
        if (wanted <= size) return true;
        const int64_t larger = wanted + wanted / 2 + 16;
        void* moved = std::realloc(data, size_t(larger) * sizeof(T));
        if (!moved) return false;
        data = static_cast<T*>(moved);
        size = larger;
        return true;
    }
    bool zeros(int64_t wanted) {
        if (!reserve(wanted)) return false;
        std::memset(data, 0, size_t(wanted) * sizeof(T));
        return true;
    }
};

// splitmix64 (Steele, Lea, Flood 2014).
uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

class Random {
  public:
    Random(uint64_t seed, uint64_t tree) : state_(mixed(mixed(seed) + tree)) {}
    // A whole number from 0 to end - 1.
    uint64_t below(uint64_t end) {
        state_ += 0x9e3779b97f4a7c15u;
        return uint64_t((unsigned __int128)(mixed(state_)) * end >> 64);
    }

  private:
    uint64_t state_;
};

// A sample in the bag, and how often it was drawn.
struct Sample {
    uint32_t index;
    uint32_t drawn : 24;
    uint32_t label : 8;
};

// A node that is still to be divided: its samples are [begin, end) of the list.
struct Pending {
    uint32_t node;
    int64_t begin, end;
};

struct Split {
    int64_t feature = -1;
    uint32_t cut = 0;
    double score = -1;
};

template <class Code>
class Grower {
  public:
    Grower(const LlSamples& samples, const LlGrowing& how, uint64_t tree, LlTree& out, const volatile uint8_t* stop)
        : samples_(samples), how_(how), random_(how.seed, tree), tree_(out), stop_(stop),
          codes_(static_cast<const Code*>(samples.codes)), classes_(samples.classes) {}

    int grow() {
        int failed = draw();
        if (failed) return failed;
        const int64_t words = (samples_.codes_end + 63) / 64;
        if (!counts_.zeros(samples_.codes_end * classes_) || !occurs_.zeros(words) || !words_.zeros((words + 63) / 64) ||
            !order_.reserve(samples_.features) || !node_.reserve(classes_) || !left_.reserve(classes_))
            return kNoMemory;
        for (int64_t f = 0; f < samples_.features; ++f) order_.data[f] = uint32_t(f);
        int64_t waiting = 0;
        if (!pending_.reserve(1) || !add_nodes(1)) return kNoMemory;
        pending_.data[waiting++] = {0, 0, in_bag_};
        while (waiting) {
            const Pending at = pending_.data[--waiting];
            if (*stop_) return kStopped;
            failed = count(at);
            if (failed) return failed;
            Split split;
            if (!is_pure_ && drawn_ >= 2 * how_.smallest_leaf) {
                failed = find(at, split);
                if (failed) return failed;
            }
            if (split.feature < 0) {
                if (!leaf(at.node)) return kNoMemory;
                continue;
            }
            tree_.importance[split.feature] += split.score - purity_;
            int64_t middle = 0;
            failed = divide(at, split, middle);
            if (failed) return failed;
            const uint32_t child = uint32_t(tree_.nodes);
            if (!add_nodes(2) || !pending_.reserve(waiting + 2)) return kNoMemory;
            tree_.feature[at.node] = uint16_t(split.feature);
            tree_.cut[at.node] = uint16_t(split.cut);
            tree_.child[at.node] = child;
            pending_.data[waiting++] = {child + 1, middle, at.end};
            pending_.data[waiting++] = {child, at.begin, middle};
        }
        return vote();
    }

  private:
    // Draw the samples of the bag: as many as there are, with replacement; or take each once.
    int draw() {
        const int64_t n = samples_.samples;
        if (!drawn_often_.zeros(n)) return kNoMemory;
        for (int64_t i = 0; i < n; ++i) {
            if (how_.bootstrap) ++drawn_often_.data[random_.below(uint64_t(n))];
            else drawn_often_.data[i] = 1;
            if (i % kLook == 0 && *stop_) return kStopped;
        }
        for (int64_t i = 0; i < n; ++i) in_bag_ += drawn_often_.data[i] != 0;
        if (!list_.reserve(in_bag_) || !aside_.reserve(in_bag_)) return kNoMemory;
        Sample* to = list_.data;
        for (int64_t i = 0; i < n; ++i)
            if (drawn_often_.data[i]) *to++ = {uint32_t(i), drawn_often_.data[i], samples_.labels[i]};
        return kDone;
    }

    // How often each class was drawn among the samples of a node.
    int count(const Pending& at) {
        std::memset(node_.data, 0, size_t(classes_) * sizeof(uint64_t));
        for (int64_t i = at.begin; i < at.end; ++i) {
            node_.data[list_.data[i].label] += list_.data[i].drawn;
            if (i % kLook == 0 && *stop_) return kStopped;
        }
        int64_t occurring = 0;
        double most = 0, weight = 0, squares = 0;
        drawn_ = 0;
        for (int64_t c = 0; c < classes_; ++c) {
            occurring += node_.data[c] != 0;
            drawn_ += int64_t(node_.data[c]);
            const double w = double(int64_t(node_.data[c])) * how_.class_weights[c];
            if (w > most) {
                most = w;
                first_ = uint8_t(c);
            }
            weight += w;
            squares += w * w;
        }
        is_pure_ = occurring == 1;
        purity_ = squares / weight;
        return kDone;
    }

    // The best split of features that are drawn until there are enough, and one of them splits.
    int find(const Pending& at, Split& best) {
        for (int64_t tried = 0; tried < samples_.features; ++tried) {
            if (tried >= how_.features_per_split && best.feature >= 0) break;
            const int64_t other = tried + int64_t(random_.below(uint64_t(samples_.features - tried)));
            const uint32_t feature = order_.data[other];
            order_.data[other] = order_.data[tried];
            order_.data[tried] = feature;
            const int failed = try_feature(at, feature, best);
            if (failed) return failed;
        }
        return kDone;
    }

    int try_feature(const Pending& at, uint32_t feature, Split& best) {
        const Code* const codes = codes_ + int64_t(feature) * samples_.stride;
        uint32_t* const counts = counts_.data;
        const Sample* const list = list_.data;
        for (int64_t begin = at.begin; begin < at.end; begin += kLook) {
            const int64_t end = at.end - begin < kLook ? at.end : begin + kLook;
            for (int64_t i = begin; i < end; ++i) {
                const uint32_t code = codes[list[i].index];
                counts[code * classes_ + list[i].label] += list[i].drawn;
                occurs_.data[code / 64] |= uint64_t(1) << code % 64;
            }
            if (*stop_) return kStopped;
        }
        const int64_t words = (samples_.codes_end + 63) / 64;
        if (words > 64) {
            // Which words have bits; few of the many do in a small node.
            for (int64_t i = at.begin; i < at.end; ++i) {
                const uint32_t word = codes[list[i].index] / 64u;
                words_.data[word / 64] |= uint64_t(1) << word % 64;
            }
        } else {
            words_.data[0] = words == 64 ? ~uint64_t(0) : (uint64_t(1) << words) - 1;
        }
        std::memset(left_.data, 0, size_t(classes_) * sizeof(uint64_t));
        int64_t drawn_left = 0;
        for (int64_t group = 0; group < (words + 63) / 64; ++group) {
            for (uint64_t some = words_.data[group]; some; some &= some - 1) {
                const int64_t word = group * 64 + __builtin_ctzll(some);
                uint64_t bits = occurs_.data[word];
                occurs_.data[word] = 0;
                for (; bits; bits &= bits - 1) {
                    const uint32_t code = uint32_t(word * 64 + __builtin_ctzll(bits));
                    uint32_t* const here = counts + code * classes_;
                    double left = 0, right = 0, left_squares = 0, right_squares = 0;
                    for (int64_t c = 0; c < classes_; ++c) {
                        left_.data[c] += here[c];
                        drawn_left += here[c];
                        here[c] = 0;
                        const double l = double(int64_t(left_.data[c])) * how_.class_weights[c];
                        const double r = double(int64_t(node_.data[c] - left_.data[c])) * how_.class_weights[c];
                        left += l;
                        right += r;
                        left_squares += l * l;
                        right_squares += r * r;
                    }
                    if (drawn_left < how_.smallest_leaf || drawn_ - drawn_left < how_.smallest_leaf) continue;
                    const double score = left_squares / left + right_squares / right;
                    if (score > best.score) best = {feature, code, score};
                }
            }
            words_.data[group] = 0;
        }
        return kDone;
    }

    // Codes up to the cut to the front, the others behind them; both in the order they had.
    int divide(const Pending& at, const Split& split, int64_t& middle) {
        const Code* const codes = codes_ + split.feature * samples_.stride;
        Sample* const list = list_.data;
        int64_t left = at.begin, right = 0;
        for (int64_t i = at.begin; i < at.end; ++i) {
            const Sample sample = list[i];
            const bool is_left = codes[sample.index] <= split.cut;
            list[left] = sample;
            aside_.data[right] = sample;
            left += is_left;
            right += !is_left;
            if (i % kLook == 0 && *stop_) return kStopped;
        }
        std::memcpy(list + left, aside_.data, size_t(right) * sizeof(Sample));
        middle = left;
        return kDone;
    }

    bool add_nodes(int64_t more) {
        const int64_t wanted = tree_.nodes + more;
        if (wanted > room_) {
            const int64_t room = wanted + wanted / 2 + 62;
            if (!larger(tree_.feature, room) || !larger(tree_.cut, room) || !larger(tree_.child, room) ||
                !larger(tree_.label, room))
                return false;
            room_ = room;
        }
        for (; tree_.nodes < wanted; ++tree_.nodes) {
            const int64_t node = tree_.nodes;
            tree_.feature[node] = tree_.cut[node] = 0;
            tree_.child[node] = 0;
            tree_.label[node] = 0;
        }
        return true;
    }

    bool leaf(uint32_t node) {
        tree_.label[node] = first_;
        if (is_pure_) return true;
        if (tree_.mixed == mixed_room_) {
            const int64_t room = mixed_room_ + mixed_room_ / 2 + 16;
            if (!larger(tree_.mixed_node, room) || !larger(tree_.mixed_drawn, room * classes_)) return false;
            mixed_room_ = room;
        }
        tree_.mixed_node[tree_.mixed] = node;
        for (int64_t c = 0; c < classes_; ++c) tree_.mixed_drawn[tree_.mixed * classes_ + c] = uint32_t(node_.data[c]);
        ++tree_.mixed;
        return true;
    }

    template <class T>
    static bool larger(T*& data, int64_t room) {
        void* moved = std::realloc(data, size_t(room) * sizeof(T));
        if (moved) data = static_cast<T*>(moved);
        return moved != nullptr;
    }

    // Each sample that was not drawn gets one vote; other trees may vote at the same time.
    int vote() {
        if (!how_.votes) return kDone;
        for (int64_t i = 0; i < samples_.samples; ++i) {
            if (i % kLook == 0 && *stop_) return kStopped;
            if (drawn_often_.data[i]) continue;
            uint32_t node = 0;
            while (tree_.child[node])
                node = tree_.child[node] + (codes_[tree_.feature[node] * samples_.stride + i] > tree_.cut[node]);
            __atomic_fetch_add(how_.votes + i * classes_ + tree_.label[node], uint16_t(1), __ATOMIC_RELAXED);
        }
        return kDone;
    }

    const LlSamples& samples_;
    const LlGrowing& how_;
    Random random_;
    LlTree& tree_;
    const volatile uint8_t* const stop_;
    const Code* const codes_;
    const int64_t classes_;

    int64_t in_bag_ = 0;
    Array<uint32_t> drawn_often_;  // per sample
    Array<Sample> list_, aside_;
    Array<Pending> pending_;
    int64_t room_ = 0, mixed_room_ = 0;

    Array<uint32_t> counts_;  // [code * classes + class], zeros between two features
    Array<uint64_t> occurs_, words_;  // a bit per code, and per word of those
    Array<uint32_t> order_;  // of features; its beginning was tried
    Array<uint64_t> left_;

    // Of the node that is being divided.
    Array<uint64_t> node_;  // how often each class was drawn
    int64_t drawn_ = 0;
    uint8_t first_ = 0;  // the class of most weight, of equals the first
    bool is_pure_ = false;
    double purity_ = 0;
};

}  // namespace

extern "C" int LL_PASTE(ll_grow_, LL_ISA)(const LlSamples* samples, const LlGrowing* how, uint64_t tree, LlTree* out,
                                         const volatile uint8_t* stop) {
    if (samples->wide) return Grower<uint16_t>(*samples, *how, tree, *out, stop).grow();
    return Grower<uint8_t>(*samples, *how, tree, *out, stop).grow();
}
