/* The attention half of a layer, around the choice of positions, which is not here. */
#pragma once
#include "attend.h"
#include "linear.h"
#include "norms.h"

typedef struct {
    int64_t q_rank, rank, rope, heads, nope, index_heads, index_dim; /* the last two are 0 without an indexer */
    float eps, latent_eps, index_eps, scale;
    const float *input_norm, *q_norm, *kv_norm, *index_weight, *index_bias;
    Weight from_hidden, from_query, output;
    Weight absorb_keys, expand_values; /* of the first head; the others follow */
} Attention;

typedef struct {
    int64_t count;
    const float *cosine, *sine; /* [count, rope] */
    const int64_t *slots;       /* [count], where the rows' cache entries go */
} Rows;

/* x [rows, heads * in] times each head's weight to y; heads lie `x_head` and `y_head` floats apart. */
static void per_head(const Weight *first, int64_t heads, const float *x, int64_t ldx, int64_t x_head, float *y,
                     int64_t ldy, int64_t y_head, int64_t rows) {
    for (int64_t h = 0; h < heads; h++) {
        const Weight one = nth(first, h);
        linear(&one, x + h * x_head, ldx, y + h * y_head, ldy, rows);
    }
}

/* Write one row's latent and index key to the caches; `raw` is what came from the hidden state. */
FORCE void write_cache(const Attention *a, const float *raw, const float *cosine, const float *sine, float *latent,
                       float *index_key) {
    rms_norm(raw + a->q_rank, a->kv_norm, a->latent_eps, a->rank, latent);
    rotate(raw + a->q_rank + a->rank, cosine, sine, a->rope, latent + a->rank);
    if (!a->index_heads) return;
    float *key = scratch(4, a->index_dim);
    layer_norm(raw + a->q_rank + a->rank + a->rope, a->index_weight, a->index_bias, a->index_eps, a->index_dim, key);
    rotate(key, cosine, sine, a->rope, index_key);
    memcpy(index_key + a->rope, key + a->rope, (size_t)(a->index_dim - a->rope) * sizeof(float));
}

/* From hidden [count, hidden]: cache entries are written; queries [count, heads, rank + rope] are in the latent space
 * and scaled, index_queries [count, index_heads, index_dim] and index_weights [count, index_heads], each where wanted. */
static void project(const Attention *a, const Rows *r, const float *hidden, float *latent, float *index_keys,
                    float *queries, float *index_queries, float *index_weights) {
    const int64_t rows = r->count, in = a->from_hidden.in, raw_width = a->from_hidden.out;
    const int64_t wide = a->from_query.out, width = a->rank + a->rope;
    float *normed = scratch(1, rows * in), *raw = scratch(2, rows * raw_width);
    for (int64_t m = 0; m < rows; m++) rms_norm(hidden + m * in, a->input_norm, a->eps, in, normed + m * in);
    linear(&a->from_hidden, normed, in, raw, raw_width, rows);
    float *query_latent = scratch(1, rows * a->q_rank), *all = scratch(3, rows * wide);
    for (int64_t m = 0; m < rows; m++) {
        const float *line = raw + m * raw_width;
        rms_norm(line, a->q_norm, a->latent_eps, a->q_rank, query_latent + m * a->q_rank);
        write_cache(a, line, r->cosine + m * a->rope, r->sine + m * a->rope, latent + r->slots[m] * width,
                    index_keys ? index_keys + r->slots[m] * a->index_dim : 0);
        if (index_weights)
            memcpy(index_weights + m * a->index_heads, line + raw_width - a->index_heads,
                   (size_t)a->index_heads * sizeof(float));
    }
    if (!queries) return;
    linear(&a->from_query, query_latent, a->q_rank, all, wide, rows);
    per_head(&a->absorb_keys, a->heads, all, wide, a->nope, queries, a->heads * width, width, rows);
    const int64_t turning = a->heads * a->nope, rest = turning + (a->heads + a->index_heads) * a->rope;
    for (int64_t m = 0; m < rows; m++) {
        const float *line = all + m * wide, *cosine = r->cosine + m * a->rope, *sine = r->sine + m * a->rope;
        for (int64_t h = 0; h < a->heads; h++)
            rotate(line + turning + h * a->rope, cosine, sine, a->rope, queries + (m * a->heads + h) * width + a->rank);
        for (int64_t i = 0; i < a->heads * width; i++) queries[m * a->heads * width + i] *= a->scale;
        for (int64_t h = 0; index_queries && h < a->index_heads; h++) {
            float *to = index_queries + (m * a->index_heads + h) * a->index_dim;
            const int64_t plain = a->index_dim - a->rope;
            rotate(line + turning + (a->heads + h) * a->rope, cosine, sine, a->rope, to);
            memcpy(to + a->rope, line + rest + h * plain, (size_t)plain * sizeof(float));
        }
    }
}

/* hidden += the layer's output of the weighted latents mixed [rows, heads, rank]. */
static void project_back(const Attention *a, int64_t rows, const float *mixed, float *hidden) {
    const int64_t v = a->expand_values.out, out = a->output.out;
    float *heads = scratch(1, rows * a->heads * v), *added = scratch(2, rows * out);
    per_head(&a->expand_values, a->heads, mixed, a->heads * a->rank, a->rank, heads, a->heads * v, v, rows);
    linear(&a->output, heads, a->heads * v, added, out, rows);
    for (int64_t i = 0; i < rows * out; i++) hidden[i] += added[i];
}

/* Rows that see all positions up to their own. */
typedef struct {
    const int64_t *numbers, *positions; /* [count] */
    int64_t count;
    const int64_t *pages; /* of the first row; the others' follow `line` further, which is 0 where all share them */
    int64_t line;
} Dense;

/* All of it at once, where no row chooses its positions. */
static void attention(const Attention *a, const Rows *rows, const Dense *groups, int64_t count, float *hidden,
                      float *latent, float *index_keys) {
    const int64_t width = a->rank + a->rope;
    float *queries = scratch(8, rows->count * a->heads * width), *mixed = scratch(9, rows->count * a->heads * a->rank);
    project(a, rows, hidden, latent, index_keys, queries, 0, 0);
    for (const Dense *group = groups; group < groups + count; group++)
        attend_all(queries, a->heads, width, a->rank, latent, group->numbers, group->positions, group->count,
                   group->pages, group->line, mixed);
    project_back(a, rows->count, mixed, hidden);
}
