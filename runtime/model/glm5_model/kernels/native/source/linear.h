/* Rows times a weight [in, out], summed over `in` in ascending order: so no result depends on how rows are tiled. */
#pragma once
#include "vector.h"

typedef struct {
    const void *data;
    int64_t in, out;
    int64_t is_bf16; /* else float */
} Weight;

/* The n-th of weights of one shape that follow each other. */
FORCE Weight nth(const Weight *first, int64_t n) {
    Weight one = *first;
    one.data = (const char *)first->data + n * first->in * first->out * (first->is_bf16 ? 2 : 4);
    return one;
}

/* Up to so many rows are computed while the weight streams by once; from there on a tile of it is unpacked first. */
#define FEW_ROWS 8

#define TILE_ROWS 6
#define FEW_VECTORS 2
#ifdef __AVX512F__
#define TILE_VECTORS 4
#define FEW_DEPTH 8
#else
#define TILE_VECTORS 1
#define FEW_DEPTH 4
#endif
#define TILE (TILE_VECTORS * LANES)

/* y += x[0..depth) * weight rows first .. first + depth, for few rows and `vectors` times LANES columns from n on; depth
 * and vectors are constants after inlining. */
FORCE void few_block(const Weight *w, int is_bf16, const float *x, int64_t ldx, float *y, int64_t ldy, int64_t rows,
                     int64_t first, int64_t n, const int depth, const int vectors) {
    v16 weights[FEW_DEPTH][FEW_VECTORS];
    for (int d = 0; d < depth; d++) {
        __builtin_prefetch((const char *)w->data + ((first + depth + d) * w->out + n) * (is_bf16 ? 2 : 4));
        for (int v = 0; v < vectors; v++)
            weights[d][v] = weight16(w->data, is_bf16, (first + d) * w->out + n + v * LANES);
    }
    for (int64_t m = 0; m < rows; m++) {
        float *to = y + m * ldy + n;
        v16 sums[FEW_VECTORS];
        for (int v = 0; v < vectors; v++) sums[v] = first ? load(to + v * LANES) : splat(0.0f);
        for (int d = 0; d < depth; d++)
            for (int v = 0; v < vectors; v++) sums[v] = fma16(splat(x[m * ldx + first + d]), weights[d][v], sums[v]);
        for (int v = 0; v < vectors; v++) store(to + v * LANES, sums[v]);
    }
}

/* The same for all columns. */
FORCE void few_step(const Weight *w, int is_bf16, const float *x, int64_t ldx, float *y, int64_t ldy, int64_t rows,
                    int64_t first, const int depth) {
    const int64_t out = w->out;
    int64_t n = 0;
    for (; n + FEW_VECTORS * LANES <= out; n += FEW_VECTORS * LANES)
        few_block(w, is_bf16, x, ldx, y, ldy, rows, first, n, depth, FEW_VECTORS);
    for (; n + LANES <= out; n += LANES) few_block(w, is_bf16, x, ldx, y, ldy, rows, first, n, depth, 1);
    if (n == out) return;
    for (int64_t m = 0; m < rows; m++) {
        v16 sum = first ? load_part(y + m * ldy + n, out - n) : splat(0.0f);
        for (int d = 0; d < depth; d++)
            sum = fma16(splat(x[m * ldx + first + d]), weight_part(w->data, is_bf16, (first + d) * out + n, out - n), sum);
        store_part(y + m * ldy + n, sum, out - n);
    }
}

FORCE void few_rows(const Weight *w, int is_bf16, const float *x, int64_t ldx, float *y, int64_t ldy, int64_t rows) {
    int64_t k = 0;
    for (; k + FEW_DEPTH <= w->in; k += FEW_DEPTH) few_step(w, is_bf16, x, ldx, y, ldy, rows, k, FEW_DEPTH);
    for (; k < w->in; k++) few_step(w, is_bf16, x, ldx, y, ldy, rows, k, 1);
}

/* One block of `rows` (a constant after inlining) times an unpacked tile [in, TILE]. */
FORCE void tile_block(const float *tile, int64_t in, const float *x, int64_t ldx, float *y, int64_t ldy, int64_t width,
                      const int rows) {
    v16 sums[TILE_ROWS][TILE_VECTORS];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < TILE_VECTORS; v++) sums[m][v] = splat(0.0f);
    for (int64_t k = 0; k < in; k++) {
        v16 weights[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++) weights[v] = load(tile + k * TILE + v * LANES);
        for (int m = 0; m < rows; m++) {
            v16 left = splat(x[m * ldx + k]);
            for (int v = 0; v < TILE_VECTORS; v++) sums[m][v] = fma16(left, weights[v], sums[m][v]);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < TILE_VECTORS; v++) {
            int64_t left = width - v * LANES;
            if (left >= LANES) store(y + m * ldy + v * LANES, sums[m][v]);
            else if (left > 0) store_part(y + m * ldy + v * LANES, sums[m][v], left);
        }
}

/* Unpack columns first .. first + width of the weight as floats [in, TILE]. */
FORCE void unpack(const Weight *w, int is_bf16, int64_t first, int64_t width, float *tile) {
    for (int64_t k = 0; k < w->in; k++)
        for (int64_t n = 0; n < TILE; n += LANES) {
            int64_t left = width - n, at = k * w->out + first + n;
            __builtin_prefetch((const char *)w->data + (at + 16 * w->out) * (is_bf16 ? 2 : 4));
            v16 part = left >= LANES ? weight16(w->data, is_bf16, at)
                       : left > 0    ? weight_part(w->data, is_bf16, at, left)
                                     : splat(0.0f);
            store(tile + k * TILE + n, part);
        }
}

FORCE void many_rows(const Weight *w, int is_bf16, const float *x, int64_t ldx, float *y, int64_t ldy, int64_t rows) {
    float *tile = scratch(0, w->in * TILE);
    for (int64_t n = 0; n < w->out; n += TILE) {
        int64_t width = w->out - n < TILE ? w->out - n : TILE, m = 0;
        unpack(w, is_bf16, n, width, tile);
        for (; m + TILE_ROWS <= rows; m += TILE_ROWS)
            tile_block(tile, w->in, x + m * ldx, ldx, y + m * ldy + n, ldy, width, TILE_ROWS);
        for (; m + 2 <= rows; m += 2) tile_block(tile, w->in, x + m * ldx, ldx, y + m * ldy + n, ldy, width, 2);
        if (m < rows) tile_block(tile, w->in, x + m * ldx, ldx, y + m * ldy + n, ldy, width, 1);
    }
}

/* y [rows, out] = x [rows, in] * w; lines of x and y are ldx and ldy floats apart. */
static void linear(const Weight *w, const float *x, int64_t ldx, float *y, int64_t ldy, int64_t rows) {
    if (rows <= FEW_ROWS) {
        if (w->is_bf16) few_rows(w, 1, x, ldx, y, ldy, rows);
        else few_rows(w, 0, x, ldx, y, ldy, rows);
    } else if (w->is_bf16) many_rows(w, 1, x, ldx, y, ldy, rows);
    else many_rows(w, 0, x, ldx, y, ldy, rows);
}
