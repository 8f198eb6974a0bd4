/*
 * Without a GPU, a driver or CUDA in the build: asking is no failure, the reason is a sentence, opening is an error of
 * use that says what to do, and the CPU device opens all the same. Where there is a GPU only the words are looked at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "kernels/kernels.h"

static int count(void)
{
    char why[256];
    return rdp_cuda_device_count(why, sizeof why);
}

static void test_reason(void **unused)
{
    char why[256] = "unset", cut[8], again[256];
    (void)unused;
    if (count() > 0)
        skip();
    for (int i = 0; i < 2; i++) { /* asking does not leave an error behind that the next call would find */
        assert_int_equal(rdp_cuda_device_count(why, sizeof why), 0);
        assert_true(strlen(why) > 10 && strlen(why) + 1 < sizeof why);
        assert_null(strchr(why, '\n'));
    }
    assert_int_equal(rdp_cuda_device_count(again, sizeof again), 0);
    assert_string_equal(why, again);
    memset(cut, 'x', sizeof cut);
    assert_int_equal(rdp_cuda_device_count(cut, sizeof cut), 0);
    assert_int_equal(strlen(cut), sizeof cut - 1);
    assert_string_equal(rdp_fail_message(), "");
    print_message("%s\n", why);
}

static void test_open(void **unused)
{
    const struct rdp_device_config config = {.precision = RDP_KERNEL_F32, .threads = 1, .plan_cache = ""};
    struct rdp_device *device = (struct rdp_device *)&config;
    struct rdp_cuda_identity identity;
    char why[256];
    (void)unused;
    if (count() > 0)
        skip();
    assert_int_equal(rdp_cuda_device_open(&device, &config), RDP_EUSAGE);
    assert_null(device);
    rdp_cuda_device_count(why, sizeof why);
    assert_non_null(strstr(rdp_fail_message(), why));
    assert_non_null(strstr(rdp_fail_message(), "--device cpu"));
    rdp_fail_clear();
    assert_int_equal(rdp_cuda_device_identify(0, &identity), RDP_EUSAGE);
    assert_string_equal(identity.name, "");
    rdp_fail_clear();
    assert_int_equal(rdp_cpu_device_open(&device, &config), RDP_OK);
    rdp_device_close(device);
}

/* An index beyond the devices, or below 0, is refused wherever one asks. */
static void test_index(void **unused)
{
    static const int indices[] = {-1, 4096};
    struct rdp_device *device;
    struct rdp_cuda_identity identity;
    (void)unused;
    for (int i = 0; i < 2; i++) {
        const struct rdp_device_config config = {.index = indices[i], .plan_cache = ""};
        assert_int_equal(rdp_cuda_device_identify(indices[i], &identity), RDP_EUSAGE);
        rdp_fail_clear();
        assert_int_equal(rdp_cuda_device_open(&device, &config), RDP_EUSAGE);
        assert_null(device);
        rdp_fail_clear();
    }
}

static void test_versions(void **unused)
{
    (void)unused;
    assert_true(strcmp(rdp_cuda_versions(), "not in this build") == 0 ||
                strncmp(rdp_cuda_versions(), "CUDA runtime ", 13) == 0);
    print_message("%s\n", rdp_cuda_versions());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reason),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
