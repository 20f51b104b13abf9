/* What Python calls; shapes and types are in native/library.py. Nothing here checks what it is given. */
#include "attend.h"
#include "attention.h"
#include "experts.h"
#include "pairs.h"
#include "route.h"
#include "serve.h"

#define PUBLIC __attribute__((visibility("default")))

/* Tells a library of other sources from this one's. */
PUBLIC int64_t glm5_sizes(void) {
    return sizeof(Attention) * 1000000 + sizeof(Router) * 1000 + sizeof(Rows) + sizeof(Dense);
}

PUBLIC int64_t glm5_message_sizes(void) {
    return sizeof(Batch) * 1000000 + sizeof(Order) * 1000 + sizeof(Task) + sizeof(Answer) + sizeof(Reply) + sizeof(Piece);
}

PUBLIC void glm5_linear(const Weight *w, const float *x, int64_t ldx, float *y, int64_t rows) {
    linear(w, x, ldx, y, w->out, rows);
}

PUBLIC void glm5_rms_norm(const float *x, const float *weight, float eps, int64_t width, int64_t rows, float *y) {
    for (int64_t m = 0; m < rows; m++) rms_norm(x + m * width, weight, eps, width, y + m * width);
}

PUBLIC void glm5_mlp(const Weight *gate_up, const Weight *down, const float *x, int64_t rows, float *y) {
    mlp(gate_up, down, x, y, rows);
}

PUBLIC int64_t glm5_experts(const Weight *gate_up, const Weight *down, int64_t count, const float *x, int64_t lines,
                            const int64_t *rows, const int64_t *slots, int64_t pairs, float *y) {
    return experts(gate_up, down, count, x, lines, rows, slots, pairs, y);
}

PUBLIC void glm5_project(const Attention *a, const Rows *rows, const float *hidden, float *latent, float *index_keys,
                         float *queries, float *index_queries, float *index_weights) {
    project(a, rows, hidden, latent, index_keys, queries, index_queries, index_weights);
}

PUBLIC void glm5_attention(const Attention *a, const Rows *rows, const Dense *groups, int64_t count, float *hidden,
                           float *latent, float *index_keys) {
    attention(a, rows, groups, count, hidden, latent, index_keys);
}

PUBLIC void glm5_attend_all(const Attention *a, const float *queries, const float *latent, const int64_t *rows,
                            const int64_t *positions, int64_t count, const int64_t *pages, int64_t line, float *mixed) {
    attend_all(queries, a->heads, a->rank + a->rope, a->rank, latent, rows, positions, count, pages, line, mixed);
}

PUBLIC void glm5_attend_selected(const Attention *a, const float *queries, const float *latent, const int64_t *rows,
                                 int64_t count, const int64_t *slots, int64_t line, int64_t chosen, float *mixed) {
    attend_selected(queries, a->heads, a->rank + a->rope, a->rank, latent, rows, count, slots, line, chosen, mixed);
}

PUBLIC void glm5_project_back(const Attention *a, int64_t rows, const float *mixed, float *hidden) {
    project_back(a, rows, mixed, hidden);
}

PUBLIC void glm5_route(const Router *r, const float *hidden, int64_t rows, float *normed, int64_t *ids, float *gates) {
    route(r, hidden, rows, normed, ids, gates);
}

PUBLIC void glm5_combine(const float *outputs, const float *gates, int64_t rows, int64_t chosen, int64_t hidden,
                         float *y) {
    int64_t *every = (int64_t *)scratch(2, 2 * rows * chosen);
    for (int64_t p = 0; p < rows * chosen; p++) every[p] = p;
    combine_pieces(&(Piece){(const char *)outputs, 0, every, rows * chosen}, 1, gates, rows, chosen, hidden, y);
}

PUBLIC void glm5_combine_pieces(const Piece *pieces, int64_t count, const float *gates, int64_t rows, int64_t chosen,
                                int64_t hidden, float *y) {
    combine_pieces(pieces, count, gates, rows, chosen, hidden, y);
}

PUBLIC int64_t glm5_split_pairs(const int64_t *experts, int64_t rows, int64_t chosen, const uint8_t *classes,
                                int64_t known, int64_t num_classes, int64_t *positions, int64_t *counts, int64_t *lines) {
    return split_pairs(experts, rows, chosen, classes, known, num_classes, positions, counts, lines);
}

PUBLIC int64_t glm5_fits(const char *offsets, int64_t rows, const char *experts, int64_t count, const uint8_t *held,
                         int64_t known) {
    return fits(offsets, rows, experts, count, held, known);
}

PUBLIC int64_t glm5_write_batch(const Batch *batch, char *to, int64_t *begin) { return write_batch(batch, to, begin); }

PUBLIC int64_t glm5_read_batch(const char *message, int64_t length, Order *to) {
    return read_batch(message, length, to);
}

PUBLIC int64_t glm5_write_answer(const Answer *answer, char *to, int64_t *begin) {
    return write_answer(answer, to, begin);
}

PUBLIC int64_t glm5_read_answer(const char *message, int64_t length, Reply *to) {
    return read_answer(message, length, to);
}

PUBLIC double glm5_serve(const Weight *gate_up, const Weight *down, int64_t held, const int64_t *slots, int64_t known,
                         Task *tasks, int64_t count) {
    return serve(gate_up, down, held, slots, known, tasks, count);
}
