// Which of the builds this processor can run.

#include "forest.h"

extern "C" int ll_abi(void) { return LL_ABI; }

extern "C" const char* ll_best_isa(void) {
#ifdef LL_HAS_X86_64_V3
    __builtin_cpu_init();
    // What the v3 build may contain: its sources are compiled with -march=x86-64-v3.
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2"))
        return "x86_64_v3";
#endif
    return "generic";
}
