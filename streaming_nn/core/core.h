/* Types and functions that the files of the core share; what Python calls is marked EXPORTED.

   Nothing here allocates, keeps state between calls, or starts threads: all memory is the caller's, and was checked
   by streaming_nn/core/library.py before its address came here. docs/arithmetic.md has the order of each operation. */
#ifndef CORE_H
#define CORE_H

#include <stddef.h>
#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define copy_bytes __builtin_memcpy
#define fill_bytes __builtin_memset

/* One register of float32. An element is computed the same way in either width. */
#ifdef __AVX2__
#define LANES 8
typedef float vector __attribute__((vector_size(32), aligned(4), may_alias));
#define SPREAD(a) ((vector){(a), (a), (a), (a), (a), (a), (a), (a)})
#else
#define LANES 4
typedef float vector __attribute__((vector_size(16), aligned(4), may_alias));
#define SPREAD(a) ((vector){(a), (a), (a), (a)})
#endif

#define PADDING 8 /* rows of weights are a multiple of as many columns, the last of them 0 */
INLINE long padded(long columns) { return (columns + PADDING - 1) / PADDING * PADDING; }
INLINE long larger(long a, long b) { return a > b ? a : b; }
INLINE long smaller(long a, long b) { return a < b ? a : b; }

/* product.c */
long panel_floats(long n, long m);
void product(const float *x, long x_row, long x_step, const float *w, long w_row, float *z, long z_row, long rows,
             long n, long m, float *panels);

#endif
