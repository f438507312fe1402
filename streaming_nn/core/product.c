/* Matrix products: each element is one chain of products and sums over an ascending index, which starts at +0.

   Which elements are computed side by side changes the speed, never a chain. A tile of R rows and V vectors stays in
   registers; of many rows, the columns are first copied into panels, so that a tile reads them one after the other. */
#include "core.h"

#define PANEL (2 * LANES) /* columns */
#define MANY_ROWS 12      /* rows from which panels pay */
#define MANY_WEIGHTS 8192 /* floats up to which the weights stay in the first cache without panels */

/* A tile of R rows and V vectors of a type. */
#define TILE(tile, vector, lanes, spread)                                                                              \
    INLINE void tile(const int R, const int V, const float *x, long x_row, long x_step, const float *w, long w_row,   \
                     const int32_t *index, float *z, long z_row, long n) {                                            \
        vector sums[12][8];                                                                                           \
        for (int r = 0; r < R; r++)                                                                                   \
            for (int v = 0; v < V; v++) sums[r][v] = spread(0.0f);                                                    \
        for (long i = 0; i < n; i++) {                                                                                \
            vector weights[8];                                                                                        \
            const float *at = w + (index ? (long)index[i] : i) * w_row;                                               \
            for (int v = 0; v < V; v++) weights[v] = *(const vector *)(at + v * lanes);                               \
            for (int r = 0; r < R; r++) {                                                                             \
                vector a = spread(x[r * x_row + i * x_step]);                                                         \
                for (int v = 0; v < V; v++) sums[r][v] += a * weights[v];                                             \
            }                                                                                                         \
        }                                                                                                             \
        for (int r = 0; r < R; r++)                                                                                   \
            for (int v = 0; v < V; v++) *(vector *)(z + r * z_row + v * lanes) = sums[r][v];                          \
    }

TILE(tile, vector, LANES, SPREAD)
#if LANES > PADDING
TILE(half_tile, half, PADDING, SPREAD_HALF)
#endif

/* All rows of V vectors of columns; R rows at a time, as many as there are. */
#define ROWS(tile, R, V) \
    for (; r + R <= rows; r += R) \
        if (index) \
            tile(R, V, x + r * x_row, x_row, x_step, w, w_row, index, z + r * z_row, z_row, n); \
        else \
            tile(R, V, x + r * x_row, x_row, x_step, w, w_row, 0, z + r * z_row, z_row, n)

/* One vector of columns has few chains: more rows hide the latency of their sums. */
#define COLUMNS_1(columns_1, tile)                                                                                     \
    static void columns_1(const float *x, long x_row, long x_step, const float *w, long w_row,                        \
                          const int32_t *index, float *z, long z_row, long rows, long n) {                            \
        long r = 0;                                                                                                   \
        ROWS(tile, 12, 1);                                                                                            \
        ROWS(tile, 6, 1);                                                                                             \
        ROWS(tile, 3, 1);                                                                                             \
        ROWS(tile, 1, 1);                                                                                             \
    }

COLUMNS_1(columns_1, tile)
#if LANES > PADDING
COLUMNS_1(columns_half, half_tile) /* the last columns, fewer than a vector */
#endif

static void columns_2(const float *x, long x_row, long x_step, const float *w, long w_row,
                      const int32_t *index, float *z, long z_row, long rows, long n) {
    long r = 0;
#if LANES == 16
    ROWS(tile, 12, 2); /* 24 of 32 registers; with AVX2 there are 16 */
#endif
    ROWS(tile, 6, 2);
    ROWS(tile, 3, 2);
    ROWS(tile, 1, 2);
}

static void columns_4(const float *x, long x_row, long x_step, const float *w, long w_row,
                      const int32_t *index, float *z, long z_row, long rows, long n) {
    long r = 0;
    ROWS(tile, 3, 4);
    ROWS(tile, 2, 4);
    ROWS(tile, 1, 4);
}

static void columns_8(const float *x, long x_row, long x_step, const float *w, long w_row,
                      const int32_t *index, float *z, long z_row, long rows, long n) {
    long r = 0;
    ROWS(tile, 1, 8);
}

/* Floats of memory for the panels of n x m weights. */
long panel_floats(long n, long m) {
    (void)m;
    return n * PANEL;
}

static const float *panel_of(const float *w, long w_row, const int32_t *index, long n, float *panel) {
    for (long i = 0; i < n; i++) {
        const float *at = w + (index ? (long)index[i] : i) * w_row;
        for (int v = 0; v < PANEL; v += LANES) *(vector *)(panel + i * PANEL + v) = *(const vector *)(at + v);
    }
    return panel;
}

/* z (rows, m) = x (rows, n) times w (n, m); m is a multiple of PADDING. x's element (r, i) is x[r x_row + i x_step].

   With `index` (n), the i-th row of weights is w's row index[i]: terms whose x is 0 in all rows are left out. */
void product(const float *x, long x_row, long x_step, const float *w, long w_row, const int32_t *index, float *z,
             long z_row, long rows, long n, long m, float *panels) {
    long j = 0;
    int pack = rows >= MANY_ROWS && n * w_row > MANY_WEIGHTS;
    if (rows == 1)
        for (; j + 8 * LANES <= m; j += 8 * LANES)
            columns_8(x, x_row, x_step, w + j, w_row, index, z + j, z_row, rows, n);
    if (rows < 6)
        for (; j + 4 * LANES <= m; j += 4 * LANES)
            columns_4(x, x_row, x_step, w + j, w_row, index, z + j, z_row, rows, n);
    for (; j + 2 * LANES <= m; j += 2 * LANES) {
        const float *panel = pack ? panel_of(w + j, w_row, index, n, panels) : w + j;
        columns_2(x, x_row, x_step, panel, pack ? PANEL : w_row, pack ? 0 : index, z + j, z_row, rows, n);
    }
    for (; j + LANES <= m; j += LANES) columns_1(x, x_row, x_step, w + j, w_row, index, z + j, z_row, rows, n);
#if LANES > PADDING
    if (j < m) columns_half(x, x_row, x_step, w + j, w_row, index, z + j, z_row, rows, n);
#endif
}

EXPORTED void core_product(const float *x, const float *w, float *z, long rows, long n, long m, float *work) {
    product(x, n, 1, w, m, 0, z, m, rows, n, m, work);
}

/* z (n, m) = the transpose of x (rows, n) times d (rows, m). */
EXPORTED void core_product_transposed(const float *x, const float *d, float *z, long rows, long n, long m, float *work) {
    product(x, 1, n, d, m, 0, z, m, n, rows, m, work);
}

EXPORTED long core_product_work(long n, long m) { return panel_floats(n, m); }
