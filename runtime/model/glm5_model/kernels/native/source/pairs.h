/* Pairs of a row and an expert: who is sent which, and what a shard is sent. */
#pragma once
#include <stdint.h>
#include <string.h>

/* Whether offsets [rows + 1] divide the pairs of experts [count] among the rows, and every expert is held [known]. */
static int64_t fits(const char *offsets, int64_t rows, const char *experts, int64_t count, const uint8_t *held,
                    int64_t known) {
    uint32_t first = 0, last;
    for (int64_t m = 0; m <= rows; m++, first = last) {
        memcpy(&last, offsets + 4 * m, 4);
        if (last < first || (m == 0 && last) || (m == rows && last != count)) return 0;
    }
    for (int64_t p = 0; p < count; p++) {
        uint16_t expert;
        memcpy(&expert, experts + 2 * p, 2);
        if (expert >= known || !held[expert]) return 0;
    }
    return 1;
}

/* Pairs [rows, chosen] by the class of their expert: to positions those of each class in turn, ascending; to counts and
 * lines [classes] how many pairs and rows a class has. Returns whether every expert has a class other than 0 [known]. */
static int64_t split_pairs(const int64_t *experts, int64_t rows, int64_t chosen, const uint8_t *classes, int64_t known,
                           int64_t num_classes, int64_t *positions, int64_t *counts, int64_t *lines) {
    int64_t ends[256];
    memset(counts, 0, (size_t)num_classes * sizeof *counts);
    memset(lines, 0, (size_t)num_classes * sizeof *lines);
    for (int64_t p = 0; p < rows * chosen; p++) {
        if (experts[p] < 0 || experts[p] >= known || !classes[experts[p]]) return 0;
        counts[classes[experts[p]]]++;
    }
    for (int64_t c = 0, end = 0; c < num_classes; end += counts[c++]) ends[c] = end;
    for (int64_t p = 0; p < rows * chosen; p++) {
        const uint8_t c = classes[experts[p]];
        lines[c] += !lines[c] || positions[ends[c] - 1] / chosen != p / chosen;
        positions[ends[c]++] = p;
    }
    return 1;
}
