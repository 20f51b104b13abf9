/* Gated MLPs: one for all rows, or one expert for each pair of a row and an expert. */
#pragma once
#include "linear.h"

/* inner [rows, 2 * width] to silu(first half) * second half, in place: active rows are 2 * width apart. */
static void gated(float *inner, int64_t rows, int64_t width) {
    for (int64_t m = 0; m < rows; m++) {
        float *gate = inner + m * 2 * width, *up = gate + width;
        for (int64_t n = 0; n < width; n += LANES) {
            int64_t left = width - n;
            if (left >= LANES) {
                v16 g = load(gate + n);
                store(gate + n, g * sigmoid16(g) * load(up + n));
            } else {
                v16 g = load_part(gate + n, left);
                store_part(gate + n, g * sigmoid16(g) * load_part(up + n, left), left);
            }
        }
    }
}

static void mlp(const Weight *gate_up, const Weight *down, const float *x, float *y, int64_t rows) {
    float *inner = scratch(1, rows * gate_up->out);
    linear(gate_up, x, gate_up->in, inner, gate_up->out, rows);
    gated(inner, rows, down->in);
    linear(down, inner, gate_up->out, y, down->out, rows);
}

/* Each of the pairs: the row at lines[p] through the expert at slots[p] of [count, in, out] weights, to outs[p]. Rows may
 * lie anywhere, inside messages too. */
static void experts_at(const Weight *gate_up, const Weight *down, int64_t count, const char *const *lines,
                       const int64_t *slots, int64_t pairs, char *const *outs) {
    const int64_t hidden = gate_up->in;
    const size_t line = (size_t)hidden * sizeof(float);
    int64_t *starts = (int64_t *)scratch(4, 2 * (count + 1)), *order = (int64_t *)scratch(5, 2 * pairs);
    memset(starts, 0, (size_t)(count + 1) * sizeof *starts);
    for (int64_t p = 0; p < pairs; p++) starts[slots[p] + 1]++;
    for (int64_t s = 0; s < count; s++) starts[s + 1] += starts[s];
    for (int64_t p = 0; p < pairs; p++) order[starts[slots[p]]++] = p;
    /* starts[s] is now where the pairs of s end. */
    for (int64_t s = 0, first = 0; s < count; first = starts[s++]) {
        const int64_t held = starts[s] - first;
        if (!held) continue;
        float *in = scratch(2, held * hidden), *out = scratch(3, held * hidden);
        for (int64_t i = 0; i < held; i++) memcpy(in + i * hidden, lines[order[first + i]], line);
        const Weight up = nth(gate_up, s), back = nth(down, s);
        mlp(&up, &back, in, out, held);
        for (int64_t i = 0; i < held; i++) memcpy(outs[order[first + i]], out + i * hidden, line);
    }
}

/* y [pairs, hidden]: pair p is row rows[p] of x [lines, hidden] through the expert at slots[p]. Returns -1, or the first
 * pair whose row or expert is not there. */
static int64_t experts(const Weight *gate_up, const Weight *down, int64_t count, const float *x, int64_t lines,
                       const int64_t *rows, const int64_t *slots, int64_t pairs, float *y) {
    const int64_t hidden = gate_up->in;
    const char **from = (const char **)scratch(6, 4 * pairs);
    char **to = (char **)(from + pairs);
    for (int64_t p = 0; p < pairs; p++) {
        if (slots[p] < 0 || slots[p] >= count || rows[p] < 0 || rows[p] >= lines) return p;
        from[p] = (const char *)(x + rows[p] * hidden), to[p] = (char *)(y + p * hidden);
    }
    experts_at(gate_up, down, count, from, slots, pairs, to);
    return -1;
}

/* A float that may lie anywhere. */
FORCE float number(const float *from) {
    float out;
    memcpy(&out, from, sizeof out);
    return out;
}

/* y [rows, hidden]: each row's `chosen` outputs, which lie at lines [rows, chosen], times their gates, added in
 * ascending order. */
static void combine(const float *const *lines, const float *gates, int64_t rows, int64_t chosen, int64_t hidden,
                    float *y) {
    for (int64_t m = 0; m < rows; m++, lines += chosen, gates += chosen, y += hidden) {
        int64_t n = 0;
        for (; n + LANES <= hidden; n += LANES) {
            v16 sum = load(lines[0] + n) * splat(gates[0]);
            for (int64_t i = 1; i < chosen; i++) sum += load(lines[i] + n) * splat(gates[i]);
            store(y + n, sum);
        }
        for (; n < hidden; n++) {
            float sum = number(lines[0] + n) * gates[0];
            for (int64_t i = 1; i < chosen; i++) sum += number(lines[i] + n) * gates[i];
            y[n] = sum;
        }
    }
}

/* The outputs of some pairs, one after the other. */
typedef struct {
    const char *message;
    int64_t data; /* where in the message they begin */
    const int64_t *positions;
    int64_t count;
} Piece;

/* The same of outputs that came in pieces, which together have every pair. */
static void combine_pieces(const Piece *pieces, int64_t count, const float *gates, int64_t rows, int64_t chosen,
                           int64_t hidden, float *y) {
    const float **lines = (const float **)scratch(1, 2 * rows * chosen);
    for (const Piece *one = pieces; one < pieces + count; one++)
        for (int64_t i = 0; i < one->count; i++)
            lines[one->positions[i]] = (const float *)(one->message + one->data) + i * hidden;
    combine(lines, gates, rows, chosen, hidden, y);
}
