/* What this CPU can run. */
#include "core.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Whether AVX2 is there, and the operating system saves its registers. */
static int has_avx2(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return 0;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}
#else
static int has_avx2(void) { return 0; }
#endif

EXPORTED int core_has_avx2(void) { return has_avx2(); }

/* The number of docs/arithmetic.md that this core follows. */
EXPORTED int core_arithmetic(void) { return 1; }
