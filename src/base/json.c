/* The JSON writer; see json.h. RFC 8259. */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>

#include "base/text.h"

static void put_string(FILE *out, const char *text)
{
    putc('"', out);
    while (*text != '\0') {
        unsigned char c = (unsigned char)*text;
        size_t length = rdp_utf8_length(text);
        if (length == 0) {
            /* The replacement character, U+FFFD: a file name need not be UTF-8, JSON must. */
            fputs("\xEF\xBF\xBD", out);
            length = 1;
        } else if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c == '\n') {
            fputs("\\n", out);
        } else if (c == '\t') {
            fputs("\\t", out);
        } else if (c < 0x20 || c == 0x7F) {
            fprintf(out, "\\u%04x", c);
        } else {
            fwrite(text, 1, length, out);
        }
        text += length;
    }
    putc('"', out);
}

static void put_line(struct rdp_json *json)
{
    if (json->pretty)
        fprintf(json->out, "\n%*s", 2 * json->depth, "");
}

/* What precedes every value: the comma after the last one, the line, the key. */
static void put_key(struct rdp_json *json, const char *key)
{
    if (json->depth > 0) {
        if (!json->first)
            fputs(json->pretty ? "," : ", ", json->out);
        put_line(json);
    }
    json->first = 0;
    if (key != NULL) {
        put_string(json->out, key);
        fputs(": ", json->out);
    }
}

static void end_value(struct rdp_json *json)
{
    if (json->depth == 0)
        putc('\n', json->out);
}

static void open_container(struct rdp_json *json, const char *key, char bracket)
{
    put_key(json, key);
    putc(bracket, json->out);
    json->depth++;
    json->first = 1;
}

static void close_container(struct rdp_json *json, char bracket)
{
    json->depth--;
    if (!json->first)
        put_line(json);
    putc(bracket, json->out);
    json->first = 0;
    end_value(json);
}

void rdp_json_begin(struct rdp_json *json, FILE *out, int pretty)
{
    *json = (struct rdp_json){.out = out, .pretty = pretty, .first = 1};
}

void rdp_json_object(struct rdp_json *json, const char *key)
{
    open_container(json, key, '{');
}

void rdp_json_object_end(struct rdp_json *json)
{
    close_container(json, '}');
}

void rdp_json_array(struct rdp_json *json, const char *key)
{
    open_container(json, key, '[');
}

void rdp_json_array_end(struct rdp_json *json)
{
    close_container(json, ']');
}

void rdp_json_text(struct rdp_json *json, const char *key, const char *value)
{
    put_key(json, key);
    if (value == NULL)
        fputs("null", json->out);
    else
        put_string(json->out, value);
    end_value(json);
}

void rdp_json_integer(struct rdp_json *json, const char *key, int64_t value)
{
    put_key(json, key);
    fprintf(json->out, "%" PRId64, value);
    end_value(json);
}

void rdp_json_real(struct rdp_json *json, const char *key, double value)
{
    char number[32];
    put_key(json, key);
    fputs(isfinite(value) ? rdp_format_real(number, sizeof number, value) : "null", json->out);
    end_value(json);
}

void rdp_json_boolean(struct rdp_json *json, const char *key, int value)
{
    put_key(json, key);
    fputs(value ? "true" : "false", json->out);
    end_value(json);
}
