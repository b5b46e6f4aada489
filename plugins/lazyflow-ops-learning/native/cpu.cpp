// Which of the builds this processor can run, and what is the same in all of them.

#include "forest.h"

#include <cstdlib>
#include <initializer_list>

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

extern "C" void ll_free_tree(LlTree* tree) {
    for (void* part : {static_cast<void*>(tree->feature), static_cast<void*>(tree->cut), static_cast<void*>(tree->child),
                       static_cast<void*>(tree->label), static_cast<void*>(tree->mixed_node),
                       static_cast<void*>(tree->mixed_drawn)})
        std::free(part);
}
