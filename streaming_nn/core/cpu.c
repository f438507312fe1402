/* What this CPU can run: core/library.py loads the widest variant of those that core/build_backend.py compiles. */
#include "core.h"

enum { SHORT, AVX2, AVX512 };

#if defined(__x86_64__)
#include <cpuid.h>

/* Registers that the operating system saves: those of AVX2, and those of AVX-512. */
enum { YMM = 0x06, ZMM = 0xe6 };

static int vectors(void) {
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return SHORT;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & YMM) != YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return SHORT;
    unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    return (saved & ZMM) == ZMM && (b & avx512) == avx512 ? AVX512 : AVX2;
}
#else
static int vectors(void) { return SHORT; }
#endif

/* The widest vectors of this CPU: 0 without extensions, 1 of AVX2, 2 of AVX-512. */
EXPORTED int core_vectors(void) { return vectors(); }

/* The number of docs/arithmetic.md that this core follows. */
EXPORTED int core_arithmetic(void) { return 2; }
