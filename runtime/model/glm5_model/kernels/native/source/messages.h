/* What travels between attention workers and shards, as protobuf messages of protos/glm5/v1/expert_service.proto.
 *
 * One call writes or reads a message: weights that stream by push an interpreter's memory out of the caches, and a
 * dozen small calls then cost more than a row's arithmetic. What is not as usual is left to the caller, who can say
 * what is wrong with it. */
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__SSE4_2__)
#define CRC8(crc, value) (uint32_t)__builtin_ia32_crc32di(crc, value)
#define CRC1(crc, value) __builtin_ia32_crc32qi(crc, value)
#elif defined(__ARM_FEATURE_CRC32)
#define CRC8(crc, value) __builtin_arm_crc32cd(crc, value)
#define CRC1(crc, value) __builtin_arm_crc32cb(crc, value)
#else
#error "a processor without instructions for CRC32C"
#endif

/* The CRC32C register after more bytes; it begins as ~0 and is inverted in the end. */
static uint32_t crc32c(uint32_t crc, const char *data, int64_t length) {
    for (; length >= 8; data += 8, length -= 8) {
        uint64_t value;
        memcpy(&value, data, 8);
        crc = CRC8(crc, value);
    }
    for (; length; data++, length--) crc = CRC1(crc, (uint8_t)*data);
    return crc;
}

/* Wire types of protobuf. */
enum { VARINT = 0, LENGTH = 2, FIXED32 = 5 };

static char *put_varint(char *to, uint64_t value) {
    for (; value >= 128; value >>= 7) *to++ = (char)(value | 128);
    *to++ = (char)value;
    return to;
}

/* A number that is not 0, as proto3 wants it. */
static char *put_number(char *to, int field, uint64_t value) {
    return value ? put_varint(put_varint(to, (uint64_t)field << 3 | VARINT), value) : to;
}

static char *put_length(char *to, int field, int64_t length) {
    return put_varint(put_varint(to, (uint64_t)field << 3 | LENGTH), (uint64_t)length);
}

static char *put_crc(char *to, int field, uint32_t crc) {
    *to++ = (char)(field << 3 | FIXED32);
    memcpy(to, &crc, 4);
    return to + 4;
}

/* Where the number ends; 0 where it is damaged. */
static const char *get_varint(const char *from, const char *end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; from < end && shift < 64; shift += 7) {
        const uint8_t byte = (uint8_t)*from++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return from;
    }
    return 0;
}

static int64_t length_of(uint64_t value) {
    int64_t length = 1;
    while (value >>= 7) length++;
    return length;
}

/* Everything of a Tensor [rows, width] but its data. */
static char *put_tensor(char *to, int field, int64_t element_type, int64_t rows, int64_t width, int64_t bytes) {
    const int64_t shape = length_of((uint64_t)rows) + length_of((uint64_t)width);
    to = put_length(to, field, 2 + 2 + shape + 1 + length_of((uint64_t)bytes) + bytes);
    to = put_number(to, 1, (uint64_t)element_type);
    to = put_varint(put_varint(put_length(to, 2, shape), (uint64_t)rows), (uint64_t)width);
    return put_length(to, 3, bytes);
}

/* Room before a message of a oneof, for its tag and its length, which are known when the rest is written. */
#define HEAD 16

typedef struct {
    int64_t sequence, layer, weight_version, element_type, reply_mode, deadline_ms;
    int64_t width, row_bytes, chosen;
    const char *rows;           /* of the whole dispatch */
    const int64_t *experts;     /* [rows, chosen] */
    const float *gates;         /* [rows, chosen] */
    const int64_t *positions;   /* [count], which pairs, ascending */
    int64_t count;
    const char *trace;
    int64_t trace_bytes;
} Batch;

/* A StreamRequest with a batch; returns its length, and in `begin` where it begins. */
static int64_t write_batch(const Batch *b, char *start, int64_t *begin) {
    int64_t rows = 0;
    for (int64_t i = 0; i < b->count; i++)
        rows += !i || b->positions[i] / b->chosen != b->positions[i - 1] / b->chosen;
    char *batch = start + HEAD, *to = batch; /* its length is known in the end, and stands before it */
    to = put_number(to, 1, (uint64_t)b->sequence);
    to = put_number(to, 2, (uint64_t)b->layer);
    to = put_number(to, 3, (uint64_t)b->weight_version);
    to = put_tensor(to, 4, b->element_type, rows, b->width, rows * b->row_bytes);
    const char *data = to;
    for (int64_t i = 0; i < b->count; i++) {
        const int64_t row = b->positions[i] / b->chosen;
        if (i && row == b->positions[i - 1] / b->chosen) continue;
        memcpy(to, b->rows + row * b->row_bytes, (size_t)b->row_bytes);
        to += b->row_bytes;
    }
    uint32_t crc = crc32c(~0u, data, to - data);
    data = to = put_length(to, 5, 4 * (rows + 1));
    for (uint32_t i = 0; i <= b->count; i++) {
        if (i && i < b->count && b->positions[i] / b->chosen == b->positions[i - 1] / b->chosen) continue;
        memcpy(to, &i, 4);
        to += 4;
    }
    crc = crc32c(crc, data, to - data);
    data = to = put_length(to, 6, 2 * b->count);
    for (int64_t i = 0; i < b->count; i++, to += 2) {
        const uint16_t expert = (uint16_t)b->experts[b->positions[i]];
        memcpy(to, &expert, 2);
    }
    crc = crc32c(crc, data, to - data);
    data = to = put_length(to, 7, 4 * b->count);
    for (int64_t i = 0; i < b->count; i++, to += 4) memcpy(to, b->gates + b->positions[i], 4);
    crc = crc32c(crc, data, to - data);
    to = put_number(to, 8, (uint64_t)b->reply_mode);
    to = put_number(to, 9, (uint64_t)b->deadline_ms);
    to = put_crc(to, 10, ~crc);
    if (b->trace_bytes) {
        to = put_length(to, 11, b->trace_bytes);
        memcpy(to, b->trace, (size_t)b->trace_bytes);
        to += b->trace_bytes;
    }
    char head[HEAD];
    const int64_t length = to - batch, before = put_length(head, 2, length) - head;
    memcpy(batch - before, head, (size_t)before);
    *begin = HEAD - before;
    return before + length;
}

/* The beginning of a StreamResponse with a result, up to where its rows go. */
static char *begin_answer(char *start, int64_t sequence, int64_t element_type, int64_t rows, int64_t width,
                          int64_t bytes) {
    return put_tensor(put_number(start + HEAD, 1, (uint64_t)sequence), 2, element_type, rows, width, bytes);
}

/* The rest of it, when its rows are there; returns its length, and in `begin` where it begins. */
static int64_t end_answer(char *start, char *data, int64_t bytes, int64_t queue_us, int64_t compute_us,
                          int64_t coalesced, int64_t *begin) {
    const uint32_t crc = ~crc32c(~0u, data, bytes);
    char *answer = start + HEAD, *to = put_number(data + bytes, 3, (uint64_t)queue_us);
    to = put_number(to, 4, (uint64_t)compute_us);
    to = put_number(to, 5, (uint64_t)coalesced);
    to = put_crc(to, 6, crc);
    char head[HEAD];
    const int64_t length = to - answer, before = put_length(head, 2, length) - head;
    memcpy(answer - before, head, (size_t)before);
    *begin = HEAD - before;
    return before + length;
}

typedef struct {
    int64_t sequence, element_type, rows, width, row_bytes, queue_us, compute_us, coalesced;
    const char *data; /* [rows], row_bytes each */
} Answer;

/* A StreamResponse with a result; returns its length, and in `begin` where it begins. */
static int64_t write_answer(const Answer *a, char *start, int64_t *begin) {
    const int64_t bytes = a->rows * a->row_bytes;
    char *data = begin_answer(start, a->sequence, a->element_type, a->rows, a->width, bytes);
    memcpy(data, a->data, (size_t)bytes);
    return end_answer(start, data, bytes, a->queue_us, a->compute_us, a->coalesced, begin);
}

typedef struct {
    const char *at, *end;
} Span;

/* The next field of a message: its number, and its value in `number` or in `bytes`. Returns 0 where there is none, also
 * where what follows is damaged or of another wire type: then the span is not at its end. */
static int64_t next_field(Span *from, uint64_t *number, Span *bytes) {
    const char *at = from->at;
    uint64_t key, value;
    if (at == from->end || !(at = get_varint(at, from->end, &key)) || key >> 3 == 0 || key >> 35) return 0;
    if ((key & 7) == FIXED32) {
        if (from->end - at < 4) return 0;
        uint32_t fixed;
        memcpy(&fixed, at, 4);
        value = fixed, at += 4;
    } else if ((key & 7) == VARINT || (key & 7) == LENGTH) {
        if (!(at = get_varint(at, from->end, &value))) return 0;
    } else return 0;
    *bytes = (Span){at, at};
    if ((key & 7) == LENGTH) {
        if (value > (uint64_t)(from->end - at)) return 0;
        bytes->end = at += value;
    }
    *number = value;
    from->at = at;
    return (int64_t)key;
}

/* The only field of a message of a oneof; returns whether it is number `field` and nothing follows. */
static int64_t only_field(const char *message, int64_t length, int64_t field, Span *inner) {
    Span outer = {message, message + length};
    uint64_t number;
    return next_field(&outer, &number, inner) == (field << 3 | LENGTH) && outer.at == outer.end;
}

typedef struct {
    int64_t element_type, rows, width;
    Span data;
} Read;

/* The bytes of each element type of tensor.proto; 0 for others. */
static int64_t item_bytes(int64_t element_type) {
    static const int64_t sizes[] = {0, 4, 2, 2, 4};
    return element_type > 0 && element_type < 5 ? sizes[element_type] : 0;
}

/* A Tensor of two dimensions; returns whether it is one and as long as its shape says. */
static int64_t read_tensor(Span from, Read *to) {
    uint64_t number, rows = 0, width = 0;
    Span bytes;
    *to = (Read){0};
    for (int64_t key; (key = next_field(&from, &number, &bytes));) {
        if (key == (1 << 3 | VARINT)) to->element_type = (int64_t)number;
        else if (key == (2 << 3 | LENGTH)) {
            const char *at = get_varint(bytes.at, bytes.end, &rows);
            if (!at || get_varint(at, bytes.end, &width) != bytes.end) return 0;
        } else if (key == (3 << 3 | LENGTH)) to->data = bytes;
        else return 0;
    }
    to->rows = (int64_t)rows, to->width = (int64_t)width;
    const int in_bounds = rows < 1u << 31 && width < 1u << 24; /* so that no product of them is too large */
    return from.at == from.end && in_bounds && to->data.end - to->data.at == (int64_t)(rows * width) * item_bytes(to->element_type);
}

typedef struct {
    int64_t sequence, layer, weight_version, element_type, reply_mode, deadline_ms, rows, width, count;
    int64_t data, offsets, experts, gates, trace, trace_bytes; /* where they are in the message */
} Order;

/* A StreamRequest with an undamaged batch of known fields; returns whether it is one. */
static int64_t read_batch(const char *message, int64_t length, Order *o) {
    Span from, bytes, offsets = {0}, experts = {0}, gates = {0};
    Read rows = {0};
    uint64_t number, crc = 0;
    *o = (Order){0};
    if (!only_field(message, length, 2, &from)) return 0;
    for (int64_t key; (key = next_field(&from, &number, &bytes));) switch (key) {
        case 1 << 3 | VARINT: o->sequence = (int64_t)number; break;
        case 2 << 3 | VARINT: o->layer = (int64_t)number; break;
        case 3 << 3 | VARINT: o->weight_version = (int64_t)number; break;
        case 4 << 3 | LENGTH: if (!read_tensor(bytes, &rows)) return 0; break;
        case 5 << 3 | LENGTH: offsets = bytes; break;
        case 6 << 3 | LENGTH: experts = bytes; break;
        case 7 << 3 | LENGTH: gates = bytes; break;
        case 8 << 3 | VARINT: o->reply_mode = (int64_t)number; break;
        case 9 << 3 | VARINT: o->deadline_ms = (int64_t)number; break;
        case 10 << 3 | FIXED32: crc = number; break;
        case 11 << 3 | LENGTH: o->trace = bytes.at - message, o->trace_bytes = bytes.end - bytes.at; break;
        default: return 0;
    }
    o->element_type = rows.element_type, o->rows = rows.rows, o->width = rows.width;
    o->count = (experts.end - experts.at) / 2;
    if (from.at != from.end || experts.end - experts.at != 2 * o->count || gates.end - gates.at != 4 * o->count ||
        offsets.end - offsets.at != 4 * (o->rows + 1))
        return 0;
    const Span parts[] = {rows.data, offsets, experts, gates};
    uint32_t found = ~0u;
    for (int i = 0; i < 4; i++) found = crc32c(found, parts[i].at, parts[i].end - parts[i].at);
    o->data = rows.data.at - message, o->offsets = offsets.at - message;
    o->experts = experts.at - message, o->gates = gates.at - message;
    return (uint32_t)~found == crc;
}

typedef struct {
    int64_t sequence, element_type, rows, width, data; /* where in the message the data begin */
} Reply;

/* A StreamResponse with an undamaged result of known fields; returns whether it is one. */
static int64_t read_answer(const char *message, int64_t length, Reply *r) {
    Span from, bytes;
    Read rows = {0};
    uint64_t number, crc = 0;
    *r = (Reply){0};
    if (!only_field(message, length, 2, &from)) return 0;
    for (int64_t key; (key = next_field(&from, &number, &bytes));) switch (key) {
        case 1 << 3 | VARINT: r->sequence = (int64_t)number; break;
        case 2 << 3 | LENGTH: if (!read_tensor(bytes, &rows)) return 0; break;
        case 3 << 3 | VARINT: case 4 << 3 | VARINT: case 5 << 3 | VARINT: break; /* times, for people */
        case 6 << 3 | FIXED32: crc = number; break;
        default: return 0;
    }
    r->element_type = rows.element_type, r->rows = rows.rows, r->width = rows.width, r->data = rows.data.at - message;
    return from.at == from.end && rows.data.at && (uint32_t)~crc32c(~0u, rows.data.at, rows.data.end - rows.data.at) == crc;
}
