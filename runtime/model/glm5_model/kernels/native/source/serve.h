/* A shard's work on the usual batches in one call: what came in messages is multiplied where it lies, and what comes out
 * is written where the answer goes. */
#pragma once
#include <time.h>
#include "experts.h"
#include "messages.h"

#define FLOAT32 1 /* the element type, of tensor.proto */

/* One batch of a product. */
typedef struct {
    const char *message;
    int64_t sequence, rows, count;      /* as in Order */
    int64_t data, offsets, experts;     /* where they are in the message; they were checked */
    int64_t queue_us;
    char *to;                           /* room for the answer */
    int64_t begin, length;              /* found: where the answer is in it */
} Task;

/* Begins a task's answer; returns where its rows go. */
static char *begin_task(const Task *task, int64_t width) {
    const int64_t bytes = task->count * width * (int64_t)sizeof(float);
    return begin_answer(task->to, task->sequence, FLOAT32, task->count, width, bytes);
}

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Answers tasks of one layer as one product. slots [known] has each expert's place among the `held`, or -1. Returns how
 * many seconds it took, or -1 if an expert is not here. */
static double serve(const Weight *gate_up, const Weight *down, int64_t held, const int64_t *slots, int64_t known,
                    Task *tasks, int64_t count) {
    const double began = now_seconds();
    const int64_t width = gate_up->in, line = width * (int64_t)sizeof(float);
    int64_t pairs = 0;
    for (int64_t t = 0; t < count; t++) pairs += tasks[t].count;
    const char **from = (const char **)scratch(6, 6 * pairs);
    char **to = (char **)(from + pairs);
    int64_t *chosen = (int64_t *)(to + pairs);
    for (Task *task = tasks; task < tasks + count; task++) {
        char *out = begin_task(task, width);
        uint32_t end = 0;
        for (int64_t p = 0, row = -1; p < task->count; p++) {
            uint16_t expert;
            memcpy(&expert, task->message + task->experts + 2 * p, 2);
            while (p >= end) memcpy(&end, task->message + task->offsets + 4 * (++row + 1), 4);
            if (expert >= known || (*chosen = slots[expert]) < 0) return -1;
            *from++ = task->message + task->data + row * line, *to++ = out + p * line, chosen++;
        }
    }
    from -= pairs, to -= pairs, chosen -= pairs;
    experts_at(gate_up, down, held, from, chosen, pairs, to);
    const double seconds = now_seconds() - began;
    for (Task *task = tasks; task < tasks + count; task++)
        task->length = end_answer(task->to, begin_task(task, width), task->count * line, task->queue_us,
                                  (int64_t)(1e6 * seconds), count, &task->begin);
    return seconds;
}
