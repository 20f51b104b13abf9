/* One row's attention over cached rows, each head in turn; positions come in ascending order. */
#pragma once
#include "vector.h"

/* Many heads at once, so that the cached rows, which do not fit into the nearest cache, pass by seldom. */
#define MIX_VECTORS 2
#ifdef __AVX512F__
#define MIX_HEADS 8
#else
#define MIX_HEADS 2
#endif

#define DOT_HEADS 4

/* Each of `heads` (a constant) queries . one key, `width` numbers: a sum for each lane, then the tree. */
FORCE void dots(const float *queries, const float *key, int64_t width, float *scores, int64_t stride, const int heads) {
    v16 sums[DOT_HEADS];
    for (int h = 0; h < heads; h++) sums[h] = splat(0.0f);
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        v16 values = load(key + i);
        for (int h = 0; h < heads; h++) sums[h] = fma16(load(queries + h * width + i), values, sums[h]);
    }
    for (int h = 0; i < width && h < heads; h++)
        sums[h] = fma16(load_part(queries + h * width + i, width - i), load_part(key + i, width - i), sums[h]);
    if (heads == DOT_HEADS) {
        v4 four = four_sums16(sums[0], sums[1], sums[2], sums[3]);
        for (int h = 0; h < heads; h++) scores[h * stride] = four[h];
    } else
        for (int h = 0; h < heads; h++) scores[h * stride] = sum16(sums[h]);
}

/* The larger of two numbers; NaN where one is. */
FORCE float larger1(float a, float b) { return a > b || a != a ? a : b; }
FORCE v16 larger(v16 a, v16 b) { return chosen((a > b) | (a != a), a, b); }

/* scores [padded to LANES] become shares, what fills up becomes 0; returns their sum. */
FORCE float softmax(float *scores, int64_t count) {
    v16 most = splat(scores[0]);
    for (int64_t t = 0; t + LANES <= count; t += LANES) most = larger(load(scores + t), most);
    float largest = most[0];
    for (int i = 1; i < LANES; i++) largest = larger1(most[i], largest);
    for (int64_t t = count / LANES * LANES; t < count; t++) largest = larger1(scores[t], largest);
    v16 sums = splat(0.0f);
    for (int64_t t = 0; t < count; t += LANES) {
        const int64_t left = count - t;
        v16 shares = exp16((left >= LANES ? load(scores + t) : load_part(scores + t, left)) - splat(largest));
        if (left < LANES) shares = load_part((const float *)&shares, left);
        store(scores + t, shares);
        sums += shares;
    }
    return sum16(sums);
}

/* out[h][0 .. vectors * LANES) = sum over t of shares[h][t] * latent[slots[t]]; heads and vectors are constants. */
FORCE void mix_tile(const float *shares, int64_t stride, const float *latent, int64_t width, const int64_t *slots,
                    int64_t count, float *out, int64_t ldo, int64_t left, const int heads, const int vectors) {
    v16 sums[MIX_HEADS][MIX_VECTORS];
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < vectors; v++) sums[h][v] = splat(0.0f);
    for (int64_t t = 0; t < count; t++) {
        const float *key = latent + slots[t] * width;
        v16 values[MIX_VECTORS];
        for (int v = 0; v < vectors; v++) values[v] = left < LANES ? load_part(key, left) : load(key + v * LANES);
        for (int h = 0; h < heads; h++) {
            v16 share = splat(shares[h * stride + t]);
            for (int v = 0; v < vectors; v++) sums[h][v] = fma16(share, values[v], sums[h][v]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < vectors; v++) {
            if (left < LANES) store_part(out + h * ldo, sums[h][v], left);
            else store(out + h * ldo + v * LANES, sums[h][v]);
        }
}

/* mix_tile for all of `rank` numbers and `heads` (a constant) heads. */
FORCE void mix(const float *shares, int64_t stride, const float *latent, int64_t width, const int64_t *slots,
               int64_t count, float *out, int64_t rank, const int heads) {
    int64_t c = 0;
    for (; c + MIX_VECTORS * LANES <= rank; c += MIX_VECTORS * LANES)
        mix_tile(shares, stride, latent + c, width, slots, count, out + c, rank, LANES, heads, MIX_VECTORS);
    for (; c < rank; c += LANES)
        mix_tile(shares, stride, latent + c, width, slots, count, out + c, rank, rank - c, heads, 1);
}

/* queries [heads, width] over latent rows slots[0 .. count): out [heads, rank]. */
static void attend_row(const float *queries, int64_t heads, int64_t width, int64_t rank, const float *latent,
                       const int64_t *slots, int64_t count, float *out) {
    const int64_t stride = (count + LANES - 1) / LANES * LANES;
    float *scores = scratch(5, heads * stride);
    for (int64_t t = 0; t < count; t++) {
        const float *key = latent + slots[t] * width;
        int64_t h = 0;
        for (; h + DOT_HEADS <= heads; h += DOT_HEADS)
            dots(queries + h * width, key, width, scores + h * stride + t, stride, DOT_HEADS);
        for (; h < heads; h++) dots(queries + h * width, key, width, scores + h * stride + t, stride, 1);
    }
    float *sums = scratch(6, heads);
    for (int64_t h = 0; h < heads; h++) sums[h] = softmax(scores + h * stride, count);
    int64_t h = 0;
    for (; h + MIX_HEADS <= heads; h += MIX_HEADS)
        mix(scores + h * stride, stride, latent, width, slots, count, out + h * rank, rank, MIX_HEADS);
    for (; h < heads; h++) mix(scores + h * stride, stride, latent, width, slots, count, out + h * rank, rank, 1);
    for (h = 0; h < heads; h++)
        for (int64_t c = 0; c < rank; c++) out[h * rank + c] /= sums[h];
}

#define PAGE 64

/* Rows that see all positions up to their own. rows [count]; pages of row i start at pages + i * line. */
static void attend_all(const float *queries, int64_t heads, int64_t width, int64_t rank, const float *latent,
                       const int64_t *rows, const int64_t *positions, int64_t count, const int64_t *pages,
                       int64_t line, float *out) {
    for (int64_t i = 0; i < count; i++) {
        int64_t *slots = (int64_t *)scratch(7, 2 * (positions[i] + 1));
        for (int64_t p = 0; p <= positions[i]; p++) slots[p] = pages[i * line + p / PAGE] * PAGE + p % PAGE;
        attend_row(queries + rows[i] * heads * width, heads, width, rank, latent, slots, positions[i] + 1,
                   out + rows[i] * heads * rank);
    }
}

/* Rows that see the first `chosen` of their line of slots. */
static void attend_selected(const float *queries, int64_t heads, int64_t width, int64_t rank, const float *latent,
                            const int64_t *rows, int64_t count, const int64_t *slots, int64_t line, int64_t chosen,
                            float *out) {
    for (int64_t i = 0; i < count; i++)
        attend_row(queries + rows[i] * heads * width, heads, width, rank, latent, slots + i * line, chosen,
                   out + rows[i] * heads * rank);
}
