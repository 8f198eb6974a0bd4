/* base/text.h and base/json.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_parse_integer(void **state)
{
    static const char *const bad[] = {"", " ", "-", "+", " 1", "1 ", "1.0", "1e3", "0x10", "--1", "9223372036854775808",
                                      "-9223372036854775809", "1,000", "ten"};
    int64_t value = 77;
    (void)state;
    assert_true(rdp_parse_integer("-9223372036854775808", &value) && value == INT64_MIN);
    assert_true(rdp_parse_integer("9223372036854775807", &value) && value == INT64_MAX);
    assert_true(rdp_parse_integer("+007", &value) && value == 7);
    assert_true(rdp_parse_integer("-0", &value) && value == 0);
    value = 77;
    for (size_t i = 0; i < COUNT(bad); i++)
        if (rdp_parse_integer(bad[i], &value))
            fail_msg("\"%s\" was taken for an integer", bad[i]);
    assert_int_equal(value, 77);
}

static void test_parse_real(void **state)
{
    static const char *const bad[] = {"",     ".",        "e5",    "1e",    " 1",     "1 ",    "nan", "inf",
                                      "-inf", "infinity", "0x1p3", "1e309", "1e-400", "1.2.3", "1,5", "1f"};
    double value = 77;
    (void)state;
    assert_true(rdp_parse_real("5e-4", &value) && value == 5e-4);
    assert_true(rdp_parse_real("-.5", &value) && value == -.5);
    assert_true(rdp_parse_real("3.", &value) && value == 3);
    assert_true(rdp_parse_real("5e-324", &value) && value == 5e-324);
    assert_true(rdp_parse_real("0e-999", &value) && value == 0);
    value = 77;
    for (size_t i = 0; i < COUNT(bad); i++)
        if (rdp_parse_real(bad[i], &value))
            fail_msg("\"%s\" was taken for a real number", bad[i]);
    assert_true(value == 77);
}

static void test_format_real_reads_back(void **state)
{
    char text[32];
    double back;
    uint64_t bits = 88172645463325252u;
    (void)state;
    assert_string_equal(rdp_format_real(text, sizeof text, 0.1), "0.1");
    assert_string_equal(rdp_format_real(text, sizeof text, 390), "390");
    assert_string_equal(rdp_format_real(text, sizeof text, 0.1 + 0.2), "0.30000000000000004");
    for (int i = 0; i < 100000; i++) { /* every kind of bit pattern */
        double value;
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        assert_true(rdp_parse_real(rdp_format_real(text, sizeof text, value), &back));
        assert_memory_equal(&back, &value, sizeof value);
    }
}

static void test_formats_for_people(void **state)
{
    static const struct { int64_t value; const char *text; } thousands[] = {
        {0, "0"}, {999, "999"}, {1000, "1,000"}, {-999, "-999"}, {-1000, "-1,000"}, {-100000, "-100,000"},
        {4977226, "4,977,226"}, {INT64_MIN, "-9,223,372,036,854,775,808"},
    };
    static const struct { double value; const char *text;
    } durations[] = {
        {0, "0.0 s"},          {4.14, "4.1 s"}, {9.94, "9.9 s"}, {9.96, "10 s"},      {41, "41 s"},
        {59.4, "59 s"},        {59.6, "1:00"},  {123, "2:03"},   {3599.6, "1:00:00"}, {3723, "1:02:03"},
        {360000, "100:00:00"}, {-1, "?"},       {NAN, "?"},      {INFINITY, "?"},
    };
    static const struct { double value; const char *text; } bytes[] = {
        {0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1048575, "1.0 MiB"}, {2040109466, "1.9 GiB"},
    };
    char text[27];
    (void)state;
    for (size_t i = 0; i < COUNT(thousands); i++)
        assert_string_equal(rdp_format_thousands(text, sizeof text, thousands[i].value), thousands[i].text);
    for (size_t i = 0; i < COUNT(durations); i++)
        assert_string_equal(rdp_format_duration(text, sizeof text, durations[i].value), durations[i].text);
    for (size_t i = 0; i < COUNT(bytes); i++)
        assert_string_equal(rdp_format_bytes(text, sizeof text, bytes[i].value), bytes[i].text);
}

static void test_nearest_name(void **state)
{
    static const char *const names[] = {"batch", "blocks", "lr", "nesterov", "weight-decay", "momentum"};
    (void)state;
    assert_string_equal(rdp_nearest_name("batc", names, COUNT(names)), "batch");
    assert_string_equal(rdp_nearest_name("bacth", names, COUNT(names)), "batch"); /* a swap is one mistake */
    assert_string_equal(rdp_nearest_name("weigth_decay", names, COUNT(names)), "weight-decay");
    assert_string_equal(rdp_nearest_name("lrr", names, COUNT(names)), "lr");
    assert_null(rdp_nearest_name("zzzz", names, COUNT(names)));
    assert_null(rdp_nearest_name("", names, COUNT(names)));
    assert_null(rdp_nearest_name("batch", names, 0));
    char monster[4096];
    memset(monster, 'a', sizeof monster - 1);
    monster[sizeof monster - 1] = '\0';
    assert_null(rdp_nearest_name(monster, names, COUNT(names)));
}

static void test_utf8(void **state)
{
    static const struct { const char *text; size_t length;
    } cases[] = {
        {"", 0},
        {"a", 1},
        {"\xC3\xA9", 2},
        {"\xE2\x82\xAC", 3},
        {"\xF0\x9F\x90\xB8", 4},
        {"\x80", 0},
        {"\xC0\x80", 0},
        {"\xC3", 0},
        {"\xC3(", 0},
        {"\xE0\x80\x80", 0},
        {"\xED\xA0\x80", 0},
        {"\xF4\x90\x80\x80", 0},
        {"\xF0\x80\x80\x80", 0},
        {"\xFF", 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(rdp_utf8_length(cases[i].text), cases[i].length);
}

static void write_sample(struct rdp_json *json)
{
    rdp_json_object(json, NULL);
    rdp_json_text(json, "a\"b", "\\ \n\t\x01 \xC3\xA9 \xFF.");
    rdp_json_text(json, "none", NULL);
    rdp_json_array(json, "list");
    rdp_json_integer(json, NULL, INT64_MIN);
    rdp_json_real(json, NULL, 0.1);
    rdp_json_real(json, NULL, NAN);
    rdp_json_real(json, NULL, -INFINITY);
    rdp_json_array_end(json);
    rdp_json_object(json, "empty");
    rdp_json_object_end(json);
    rdp_json_boolean(json, "yes", 1);
    rdp_json_object_end(json);
}

static void test_json(void **state)
{
    static const char *const expected[2] = {
        "{\"a\\\"b\": \"\\\\ \\n\\t\\u0001 \xC3\xA9 \xEF\xBF\xBD.\", \"none\": null, "
        "\"list\": [-9223372036854775808, 0.1, null, null], \"empty\": {}, \"yes\": true}\n",
        "{\n  \"a\\\"b\": \"\\\\ \\n\\t\\u0001 \xC3\xA9 \xEF\xBF\xBD.\",\n  \"none\": null,\n"
        "  \"list\": [\n    -9223372036854775808,\n    0.1,\n    null,\n    null\n  ],\n  \"empty\": {},\n  \"yes\": "
        "true\n}\n",
    };
    (void)state;
    for (int pretty = 0; pretty < 2; pretty++) {
        struct rdp_json json;
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        assert_non_null(out);
        rdp_json_begin(&json, out, pretty);
        write_sample(&json);
        fclose(out);
        assert_string_equal(text, expected[pretty]);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_integer),      cmocka_unit_test(test_parse_real),
        cmocka_unit_test(test_format_real_reads_back), cmocka_unit_test(test_formats_for_people),
        cmocka_unit_test(test_nearest_name),       cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
