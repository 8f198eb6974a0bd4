/* CPU masks: parts of a mask cover it once, evenly, in order; and the text form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/cores.h"

/* CPUs that no machine has are each their own core, so these masks do not depend on the machine. */
enum { FAR = 5000 };

static void put(struct rdp_cpus *cpus, int cpu)
{
    cpus->words[cpu / 64] |= (uint64_t)1 << (cpu % 64);
}

static void test_format(void **unused)
{
    struct rdp_cpus cpus = {{0}};
    char text[64], small[12];

    (void)unused;
    assert_string_equal(rdp_cpus_format(&cpus, text, sizeof text), "");
    for (int cpu = 0; cpu < 4; cpu++)
        put(&cpus, cpu);
    put(&cpus, 8);
    put(&cpus, 63);
    put(&cpus, 64);
    put(&cpus, RDP_CPU_WORDS * 64 - 1);
    assert_string_equal(rdp_cpus_format(&cpus, text, sizeof text), "0-3,8,63-64,8191");
    assert_string_equal(rdp_cpus_format(&cpus, small, sizeof small), "0-3,8...");
}

static void test_parts(void **unused)
{
    (void)unused;
    for (int cores = 1; cores <= 20; cores++)
        for (int parts = 1; parts <= cores; parts++) {
            struct rdp_cpus all = {{0}}, sum = {{0}};
            for (int i = 0; i < cores; i++)
                put(&all, FAR + 3 * i);
            assert_int_equal(rdp_cpus_cores(&all), cores);
            for (int part = 0; part < parts; part++) {
                struct rdp_cpus mine;
                rdp_cpus_part(&all, part, parts, &mine);
                int count = rdp_cpus_cores(&mine);
                assert_true(count == cores / parts || count == cores / parts + 1);
                assert_false(rdp_cpus_overlap(&sum, &mine));
                rdp_cpus_add(&sum, &mine);
            }
            assert_true(rdp_cpus_equal(&sum, &all));
        }
}

static void test_own_mask(void **unused)
{
    struct rdp_cpus mine, again;

    (void)unused;
    assert_true(rdp_cpus_of_process(0, &mine));
    assert_true(rdp_cpus_cores(&mine) >= 1);
    assert_true(rdp_cpus_apply(&mine));
    assert_true(rdp_cpus_of_process(0, &again));
    assert_true(rdp_cpus_equal(&mine, &again));
    assert_true(rdp_cpu_quota() >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_own_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
