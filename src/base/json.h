/* A JSON writer: correct escaping, NaN and infinities as null, numbers that read back to the same bits. */
#ifndef RDP_BASE_JSON_H
#define RDP_BASE_JSON_H

#include <stdint.h>
#include <stdio.h>

struct rdp_json {
    FILE *out;   /* the caller's; errors show in ferror(out) */
    int depth;
    int pretty;  /* 1: a line per member, indented; 0: one line */
    int first;   /* the next member is the first of its container */
};

/* One document at a time; the end of its outermost value also writes the newline after it. */
void rdp_json_begin(struct rdp_json *json, FILE *out, int pretty);
/* `key` is NULL inside an array and for the outermost value. */
void rdp_json_object(struct rdp_json *json, const char *key);
void rdp_json_object_end(struct rdp_json *json);
void rdp_json_array(struct rdp_json *json, const char *key);
void rdp_json_array_end(struct rdp_json *json);
/* NULL value: null; bytes that are no UTF-8 become U+FFFD. */
void rdp_json_text(struct rdp_json *json, const char *key, const char *value);
void rdp_json_integer(struct rdp_json *json, const char *key, int64_t value);
void rdp_json_real(struct rdp_json *json, const char *key, double value); /* shortest form that reads back equal */
void rdp_json_boolean(struct rdp_json *json, const char *key, int value);

#endif
