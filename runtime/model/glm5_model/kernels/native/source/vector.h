/* Sixteen floats at a time, the same on every processor: where registers are narrower the compiler uses several.
 *
 * Every sum has one order, whatever the processor and whatever else is computed: so a row has the same bits in every
 * batch. Multiply and add is always fused, in tails too. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef uint32_t u16 __attribute__((vector_size(64)));
typedef uint16_t h16 __attribute__((vector_size(32)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v4 __attribute__((vector_size(16)));

#define FORCE static inline __attribute__((always_inline))

FORCE v16 fma16(v16 a, v16 b, v16 c) { return __builtin_elementwise_fma(a, b, c); }
FORCE v16 splat(float x) { return (v16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

FORCE v16 load(const float *from) {
    v16 out;
    memcpy(&out, from, sizeof out);
    return out;
}

FORCE void store(float *to, v16 values) { memcpy(to, &values, sizeof values); }

/* The first n of 16 floats, zeros after them. */
FORCE v16 load_part(const float *from, int64_t n) {
    v16 out = {0};
    memcpy(&out, from, (size_t)n * sizeof(float));
    return out;
}

FORCE void store_part(float *to, v16 values, int64_t n) { memcpy(to, &values, (size_t)n * sizeof(float)); }

/* A bfloat16 is the upper half of a float. */
FORCE v16 widened(h16 halves) { return (v16)(__builtin_convertvector(halves, u16) << 16); }

/* Weight numbers `index` to `index` + 15. */
FORCE v16 weight16(const void *data, int is_bf16, int64_t index) {
    if (!is_bf16) return load((const float *)data + index);
    h16 halves;
    memcpy(&halves, (const uint16_t *)data + index, sizeof halves);
    return widened(halves);
}

FORCE v16 weight_part(const void *data, int is_bf16, int64_t index, int64_t n) {
    if (!is_bf16) return load_part((const float *)data + index, n);
    h16 halves = {0};
    memcpy(&halves, (const uint16_t *)data + index, (size_t)n * sizeof(uint16_t));
    return widened(halves);
}

FORCE v8 halved16(v16 x) {
    return __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
}
FORCE v4 halved8(v8 x) {
    return __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
}

/* The sum of all lanes, as a tree. */
FORCE float sum16(v16 x) {
    v4 y = halved8(halved16(x));
    return (y[0] + y[2]) + (y[1] + y[3]);
}

/* The same of four at once. */
FORCE v4 four_sums16(v16 a, v16 b, v16 c, v16 d) {
    v4 p = halved8(halved16(a)), q = halved8(halved16(b)), r = halved8(halved16(c)), s = halved8(halved16(d));
    v4 pq = __builtin_shufflevector(p, q, 0, 1, 4, 5) + __builtin_shufflevector(p, q, 2, 3, 6, 7);
    v4 rs = __builtin_shufflevector(r, s, 0, 1, 4, 5) + __builtin_shufflevector(r, s, 2, 3, 6, 7);
    return __builtin_shufflevector(pq, rs, 0, 2, 4, 6) + __builtin_shufflevector(pq, rs, 1, 3, 5, 7);
}

/* a where the mask is all ones, else b. */
FORCE v16 chosen(i16 mask, v16 a, v16 b) { return (v16)((mask & (i16)a) | (~mask & (i16)b)); }

/* exp(x) to about one unit in the last place; NaN stays NaN. Coefficients: Cephes, expf. */
FORCE v16 exp16(v16 x) {
    x = chosen(x < splat(-87.0f), splat(-87.0f), x);
    x = chosen(x > splat(88.0f), splat(88.0f), x);
    v16 n = __builtin_elementwise_roundeven(x * splat(1.44269504088896341f));
    v16 r = fma16(n, splat(-0.693359375f), x);
    r = fma16(n, splat(2.12194440e-4f), r);
    v16 p = splat(1.9875691500e-4f);
    p = fma16(p, r, splat(1.3981999507e-3f));
    p = fma16(p, r, splat(8.3334519073e-3f));
    p = fma16(p, r, splat(4.1665795894e-2f));
    p = fma16(p, r, splat(1.6666665459e-1f));
    p = fma16(p, r, splat(5.0000001201e-1f));
    p = fma16(p, r * r, r) + splat(1.0f);
    /* NaN converts to some integer; the product is NaN all the same. */
    i16 power = __builtin_convertvector(chosen(n == n, n, splat(0.0f)), i16);
    return p * (v16)((power + 127) << 23);
}

FORCE v16 sigmoid16(v16 x) { return splat(1.0f) / (splat(1.0f) + exp16(-x)); }

/* Memory of this thread for intermediate rows; what was there before is lost. */
static inline float *scratch(int which, int64_t floats) {
    static _Thread_local struct { float *data; int64_t room; } held[10];
    if (held[which].room < floats) {
        free(held[which].data);
        held[which].data = aligned_alloc(64, ((size_t)floats * sizeof(float) + 4095) / 4096 * 4096);
        if (!held[which].data) abort();
        held[which].room = floats;
    }
    return held[which].data;
}
