/* Which GPU a rank takes, and who is told to share one: the rules on tables, then the collective with as many ranks as
 * the test is started with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "comm/comm.h"
#include "comm/device_choice.h"
#include "comm/launch.h"
#include "support_mpi.h"

static struct rdp_launch launch;
static struct rdp_comm *comm;

static void test_choose(void **unused)
{
    static const struct {
        int local_rank, visible, index;
    } cases[] = {{0, 1, 0}, {3, 1, 0}, {0, 4, 0}, {3, 4, 3}, {4, 4, 0}, {7, 4, 3}, {5, 2, 1}};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rdp_launch one = {.local_rank = cases[i].local_rank, .local_size = 8, .host = "a"};
        int index = -1;
        assert_int_equal(rdp_device_choose(&one, cases[i].visible, &index), RDP_OK);
        assert_int_equal(index, cases[i].index);
    }
    struct rdp_launch none = {.local_rank = 2, .host = "node7"};
    int index = -1;
    assert_int_equal(rdp_device_choose(&none, 0, &index), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "node7"));
    assert_non_null(strstr(rdp_fail_message(), "CUDA_VISIBLE_DEVICES"));
    rdp_fail_clear();
}

static void test_find_sharing(void **unused)
{
    struct rdp_device_place places[4] = {{"a", "1", "0000:1b:00.0"},
                                         {"a", "1", "0000:1c:00.0"},
                                         {"b", "2", "0000:1b:00.0"}, /* the same slot of another machine */
                                         {"b", "2", "0000:1c:00.0"}};
    char text[256];

    (void)unused;
    assert_false(rdp_device_find_sharing(places, 4, text, sizeof text));
    assert_string_equal(text, "");
    assert_false(rdp_device_find_sharing(places, 0, text, sizeof text));

    strcpy(places[3].pci_bus, "0000:1B:00.0"); /* however it is spelt */
    assert_true(rdp_device_find_sharing(places, 4, text, sizeof text));
    assert_string_equal(text, "ranks 2 and 3 on host b both drive GPU 0000:1B:00.0");
    places[1] = places[0];
    assert_true(rdp_device_find_sharing(places, 4, text, sizeof text));
    assert_string_equal(text, "ranks 0 and 1 on host a both drive GPU 0000:1b:00.0; 1 more rank does so");
    places[2] = places[3] = places[0];
    assert_true(rdp_device_find_sharing(places, 4, text, sizeof text));
    assert_string_equal(text, "ranks 0 and 1 on host a both drive GPU 0000:1b:00.0; 2 more ranks do so");

    /* Two machines of one name; two containers of one machine; machines that tell nothing but their names. */
    struct rdp_device_place pair[2] = {{"localhost", "1", "0000:1b:00.0"}, {"localhost", "2", "0000:1b:00.0"}};
    assert_false(rdp_device_find_sharing(pair, 2, text, sizeof text));
    strcpy(pair[1].machine, "1");
    strcpy(pair[1].host, "other");
    assert_true(rdp_device_find_sharing(pair, 2, text, sizeof text));
    pair[0].machine[0] = pair[1].machine[0] = '\0';
    assert_false(rdp_device_find_sharing(pair, 2, text, sizeof text));
    strcpy(pair[1].host, "localhost");
    assert_true(rdp_device_find_sharing(pair, 2, text, sizeof text));

    /* CPUs are nobody's GPU. */
    pair[0].pci_bus[0] = pair[1].pci_bus[0] = '\0';
    assert_false(rdp_device_find_sharing(pair, 2, text, sizeof text));
}

static void test_sharing(void **unused)
{
    char bus[32], text[256], expected[512];
    bool shared = true;

    (void)unused;
    snprintf(bus, sizeof bus, "0000:%02x:00.0", comm->rank + 16);
    assert_int_equal(rdp_device_sharing(comm, &launch, bus, &shared, text, sizeof text), RDP_OK);
    assert_false(shared);
    assert_string_equal(text, "");

    /* The last rank takes rank 0's. */
    if (comm->rank == comm->size - 1)
        strcpy(bus, "0000:10:00.0");
    assert_int_equal(rdp_device_sharing(comm, &launch, bus, &shared, text, sizeof text), RDP_OK);
    assert_int_equal(shared, comm->size > 1);
    snprintf(expected, sizeof expected, "ranks 0 and %d on host %s both drive GPU 0000:10:00.0", comm->size - 1,
             launch.host);
    assert_string_equal(text, comm->size > 1 ? expected : "");

    assert_int_equal(rdp_device_sharing(comm, &launch, "", &shared, text, sizeof text), RDP_OK);
    assert_false(shared);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_find_sharing),
        cmocka_unit_test(test_sharing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return rdp_test_mpi_main(argc, argv, &launch, &comm, run);
}
