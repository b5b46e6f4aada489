// Ranks of the values around each pixel.

#include "filters.h"

#include "extreme.h"
#include "rank.h"

#define LF_NAME2(name, isa) name##_##isa
#define LF_NAME1(name, isa) LF_NAME2(name, isa)
#define LF_NAME(name) LF_NAME1(name, LF_BUILD)

namespace {

template <class P>
int rank(const lf_neighborhood& spec, P code) {
    long members = 0;
    for (long i = 0; i < (2L * spec.radius[0] + 1) * (2L * spec.radius[1] + 1); i++)
        members += spec.reach[i] < 0 ? 0 : 2L * spec.reach[i] + 1;
    if (spec.rank == members - 1) return LargestFilter<P>(spec, code).run();
    if (spec.rank == 0) {
        code.flip = ~code.flip;
        return LargestFilter<P>(spec, code).run();
    }
    long length[3] = {1, 1, 1}, size = 1;
    choose_tile(spec, members, length);
    for (int axis = 0; axis < 3; axis++)
        size *= min_of(length[axis], spec.stop[axis] - spec.start[axis]) + 2L * spec.radius[axis];
    if (size <= SHORT_PLACES) return RankFilter<P, uint16_t>(spec, code).run(length);
    return RankFilter<P, uint32_t>(spec, code).run(length);
}

}  // namespace

extern "C" int LF_NAME(lf_rank)(const lf_neighborhood* spec) {
    switch (spec->type) {
        case LF_UINT8: return rank(*spec, Integer<uint8_t>{0});
        case LF_INT8: return rank(*spec, Integer<uint8_t>{0x80});
        case LF_UINT16: return rank(*spec, Integer<uint16_t>{0});
        case LF_INT16: return rank(*spec, Integer<uint16_t>{0x8000});
        case LF_UINT32: return rank(*spec, Integer<uint32_t>{0});
        case LF_INT32: return rank(*spec, Integer<uint32_t>{0x80000000u});
        default: return rank(*spec, Float{0});
    }
}
