/* The router of a sparse layer. */
#pragma once
#include "linear.h"
#include "norms.h"

typedef struct {
    const float *norm; /* [hidden], before router and experts */
    Weight router;
    const float *bias; /* [experts], for the choice only */
    int64_t chosen, normalised;
    float eps, scaling;
} Router;

/* The `chosen` largest of scores + bias in ascending order of index; of equal ones the smaller index, NaN is least. */
FORCE void choose(const float *scores, const float *bias, int64_t count, int64_t chosen, int64_t *ids) {
    float *best = scratch(3, chosen);
    int64_t held = 0;
    for (int64_t e = 0; e < count; e++) {
        float biased = scores[e] + bias[e];
        if (biased != biased) biased = -INFINITY;
        if (held == chosen && !(biased > best[chosen - 1])) continue;
        int64_t at = held < chosen ? held++ : chosen - 1;
        for (; at && biased > best[at - 1]; at--) best[at] = best[at - 1], ids[at] = ids[at - 1];
        best[at] = biased, ids[at] = e;
    }
    for (int64_t i = 1; i < chosen; i++) { /* ascending, by insertion */
        int64_t id = ids[i], at = i;
        for (; at && ids[at - 1] > id; at--) ids[at] = ids[at - 1];
        ids[at] = id;
    }
}

/* hidden [rows, hidden] to normed rows, ids [rows, chosen] ascending and gates [rows, chosen]. */
static void route(const Router *r, const float *hidden, int64_t rows, float *normed, int64_t *ids, float *gates) {
    const int64_t in = r->router.in, experts = r->router.out;
    float *scores = scratch(2, rows * experts);
    for (int64_t m = 0; m < rows; m++) rms_norm(hidden + m * in, r->norm, r->eps, in, normed + m * in);
    linear(&r->router, normed, in, scores, experts, rows);
    for (int64_t m = 0; m < rows; m++) {
        float *line = scores + m * experts, *out = gates + m * r->chosen, sum = 0.0f;
        for (int64_t e = 0; e < experts; e += LANES) {
            const int64_t left = experts - e < LANES ? experts - e : LANES;
            store_part(line + e, sigmoid16(load_part(line + e, left)), left);
        }
        choose(line, r->bias, experts, r->chosen, ids + m * r->chosen);
        for (int64_t i = 0; i < r->chosen; i++) sum += out[i] = line[ids[m * r->chosen + i]];
        for (int64_t i = 0; i < r->chosen; i++) out[i] = (r->normalised ? out[i] / (sum + 1e-20f) : out[i]) * r->scaling;
    }
}
