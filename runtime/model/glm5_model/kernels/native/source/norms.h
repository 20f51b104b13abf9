/* Normalisation and rotation of rows. */
#pragma once
#include "vector.h"

/* The sum of (x[i] - from)^2: a sum for each lane, then the tree. */
FORCE float squares(const float *x, int64_t width, float from) {
    v16 sums = splat(0.0f);
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        v16 d = load(x + i) - splat(from);
        sums = fma16(d, d, sums);
    }
    for (int64_t lane = 0; i < width; i++, lane++) sums[lane] = __builtin_fmaf(x[i] - from, x[i] - from, sums[lane]);
    return sum16(sums);
}

static void rms_norm(const float *x, const float *weight, float eps, int64_t width, float *y) {
    float factor = 1.0f / sqrtf(squares(x, width, 0.0f) / (float)width + eps);
    for (int64_t i = 0; i < width; i++) y[i] = x[i] * factor * weight[i];
}

static void layer_norm(const float *x, const float *weight, const float *bias, float eps, int64_t width, float *y) {
    v16 sums = splat(0.0f);
    for (int64_t i = 0; i < width; i += LANES) sums += load_part(x + i, width - i < LANES ? width - i : LANES);
    float mean = sum16(sums) / (float)width;
    float factor = 1.0f / sqrtf(squares(x, width, mean) / (float)width + eps);
    for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * factor * weight[i] + bias[i];
}

/* y = x turned by a position's factors; the even parts of all pairs lie before the odd ones. y may not be x. */
FORCE void rotate(const float *x, const float *cosine, const float *sine, int64_t width, float *y) {
    const int64_t half = width / 2;
    for (int64_t i = 0; i < half; i++) {
        y[i] = x[half + i] * sine[i] + x[i] * cosine[i];
        y[half + i] = x[i] * sine[half + i] + x[half + i] * cosine[half + i];
    }
}
