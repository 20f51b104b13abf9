/* What a shard is sent: which expert each row goes to. */
#pragma once
#include <stdint.h>

/* To pairs [2, count] each pair's row and expert: row m has the pairs from offsets[m] to before offsets[m + 1].
 * Returns whether the offsets divide the pairs among the rows and every expert is held [known]. */
static int64_t read_pairs(const uint32_t *offsets, int64_t rows, const uint16_t *experts, int64_t count,
                          const uint8_t *held, int64_t known, int64_t *pairs) {
    if (offsets[0] != 0 || offsets[rows] != count) return 0;
    for (int64_t m = 0; m < rows; m++) {
        if (offsets[m + 1] < offsets[m] || offsets[m + 1] > count) return 0;
        for (int64_t p = offsets[m]; p < offsets[m + 1]; p++) {
            if (experts[p] >= known || !held[experts[p]]) return 0;
            pairs[p] = m;
            pairs[count + p] = experts[p];
        }
    }
    return 1;
}
