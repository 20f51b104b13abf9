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

/* y [pairs, hidden]: pair p is row rows[p] of x [lines, hidden] through the expert at slots[p] of [count, in, out]
 * weights. Returns -1, or the first pair whose row or expert is not there. */
static int64_t experts(const Weight *gate_up, const Weight *down, int64_t count, const float *x, int64_t lines,
                       const int64_t *rows, const int64_t *slots, int64_t pairs, float *y) {
    const int64_t hidden = gate_up->in;
    int64_t *starts = (int64_t *)scratch(4, 2 * (count + 1)), *order = (int64_t *)scratch(5, 2 * pairs);
    for (int64_t p = 0; p < pairs; p++)
        if (slots[p] < 0 || slots[p] >= count || rows[p] < 0 || rows[p] >= lines) return p;
    memset(starts, 0, (size_t)(count + 1) * sizeof *starts);
    for (int64_t p = 0; p < pairs; p++) starts[slots[p] + 1]++;
    for (int64_t s = 0; s < count; s++) starts[s + 1] += starts[s];
    for (int64_t p = 0; p < pairs; p++) order[starts[slots[p]]++] = p;
    /* starts[s] is now where the pairs of s end. */
    for (int64_t s = 0, first = 0; s < count; first = starts[s++]) {
        const int64_t held = starts[s] - first;
        if (!held) continue;
        float *in = scratch(2, held * hidden), *out = scratch(3, held * hidden);
        for (int64_t i = 0; i < held; i++)
            memcpy(in + i * hidden, x + rows[order[first + i]] * hidden, (size_t)hidden * sizeof(float));
        const Weight up = nth(gate_up, s), back = nth(down, s);
        mlp(&up, &back, in, out, held);
        for (int64_t i = 0; i < held; i++)
            memcpy(y + order[first + i] * hidden, out + i * hidden, (size_t)hidden * sizeof(float));
    }
    return -1;
}

/* y [rows, hidden]: each row's `chosen` outputs times their gates, added in ascending order. */
static void combine(const float *outputs, const float *gates, int64_t rows, int64_t chosen, int64_t hidden, float *y) {
    for (int64_t m = 0; m < rows; m++) {
        const float *own = outputs + m * chosen * hidden;
        float *to = y + m * hidden;
        for (int64_t n = 0; n < hidden; n++) to[n] = own[n] * gates[m * chosen];
        for (int64_t i = 1; i < chosen; i++)
            for (int64_t n = 0; n < hidden; n++) to[n] += own[i * hidden + n] * gates[m * chosen + i];
    }
}
