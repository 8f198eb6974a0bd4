/*
 * The CUDA device apart from its arithmetic: what it is called, memory, feeding, time stamps, idle, recordings, and what
 * it says when it is misused or out of memory. Exit 77 without a GPU.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "support_devices.h"
#include "support_network.h"

static struct rdp_device *device;
static const struct rdp_device_ops *ops;

static void must_refuse(int status, int expected, const char *word)
{
    assert_int_equal(status, expected);
    if (strstr(rdp_fail_message(), word) == NULL)
        fail_msg("no \"%s\" in: %s", word, rdp_fail_message());
    rdp_fail_clear();
}

static float first_of(const void *data)
{
    float value;
    RDP_MUST(ops->download(device, &value, data, sizeof value));
    return value;
}

static void test_identity(void **unused)
{
    struct rdp_cuda_identity identity;
    (void)unused;
    RDP_MUST(rdp_cuda_device_identify(0, &identity));
    assert_true(identity.major >= 3 && identity.memory > 0 && identity.name[0] != '\0');
    assert_non_null(strchr(identity.pci_bus, ':'));
    assert_non_null(strstr(device->description, identity.name));
    assert_non_null(strstr(device->description, identity.pci_bus));
    assert_non_null(strstr(rdp_cuda_versions(), "CUDA runtime "));
    assert_string_equal(ops->name, "cuda");
    assert_false(ops->host_memory);
    assert_non_null(ops->stream(device));
    print_message("%s; %s\n", device->description, rdp_cuda_versions());
}

static void test_memory(void **unused)
{
    enum { COUNT = 100003 };
    float *host = calloc(COUNT, sizeof *host), *back = calloc(COUNT, sizeof *back), *data[2];
    const size_t bytes = COUNT * sizeof *host, used = ops->memory_used(device);
    (void)unused;
    assert_true(host != NULL && back != NULL);
    for (int i = 0; i < COUNT; i++)
        host[i] = (float)rdp_test_value(1, (uint64_t)i);
    for (int round = 0; round < 2; round++) { /* the second round gets memory that was written before */
        for (int i = 0; i < 2; i++) {
            RDP_MUST(ops->alloc(device, (void **)&data[i], bytes, "a test's block"));
            assert_int_equal((uintptr_t)data[i] % 256, 0);
            RDP_MUST(ops->download(device, back, data[i], bytes));
            for (int k = 0; k < COUNT; k++)
                assert_true(back[k] == 0);
            assert_int_equal(ops->memory_used(device), used + (size_t)(i + 1) * bytes);
        }
        RDP_MUST(ops->upload(device, data[0], host, bytes));
        RDP_MUST(ops->copy(device, data[1], data[0], bytes));
        RDP_MUST(ops->zero(device, data[0], bytes));
        RDP_MUST(ops->download(device, back, data[1], bytes));
        assert_memory_equal(back, host, bytes);
        RDP_MUST(ops->download(device, back, data[0], bytes));
        for (int k = 0; k < COUNT; k++)
            assert_true(back[k] == 0);
        RDP_MUST(ops->upload(device, data[0], host, bytes));
        for (int i = 0; i < 2; i++)
            ops->free(device, data[i]);
        assert_int_equal(ops->memory_used(device), used);
    }
    RDP_MUST(ops->alloc(device, (void **)&data[0], 0, "nothing"));
    assert_null(data[0]);
    ops->free(device, data[0]);
    assert_int_equal(ops->memory_used(device), used);
    RDP_MUST(ops->copy(device, NULL, NULL, 0));
    RDP_MUST(ops->zero(device, NULL, 0));
    free(host);
    free(back);
}

static void test_out_of_memory(void **unused)
{
    void *data = &data;
    const size_t used = ops->memory_used(device);
    (void)unused;
    must_refuse(ops->alloc(device, &data, (size_t)1 << 50, "the moon"), RDP_ENOMEM, "the moon");
    assert_null(data);
    (void)ops->alloc(device, &data, (size_t)1 << 50, "the moon");
    assert_non_null(strstr(rdp_fail_message(), "MiB are free"));
    rdp_fail_clear();
    assert_int_equal(ops->memory_used(device), used);
    RDP_MUST(ops->alloc(device, &data, 4096, "a block")); /* the device goes on */
    RDP_MUST(ops->synchronize(device));
    ops->free(device, data);
}

/* Thousands of feeds of all sizes into one place, each copied on from there: the device sees each in its turn, though
 * the host is ahead of it, goes round the ring many times and reuses its buffer at once. One is larger than the ring's
 * sections. */
static void test_feed(void **unused)
{
    enum { FEEDS = 3000, LARGEST = 40000, HUGE_ONE = 3 << 20, KEPT = 16 };
    uint8_t *host = malloc(HUGE_ONE), *kept = malloc((size_t)FEEDS * KEPT);
    void *to, *keep;
    (void)unused;
    assert_true(host != NULL && kept != NULL);
    RDP_MUST(ops->alloc(device, &to, HUGE_ONE, "the target of feeds"));
    RDP_MUST(ops->alloc(device, &keep, (size_t)FEEDS * KEPT, "what was fed"));
    for (int i = 0; i < FEEDS; i++) {
        const size_t bytes =
            i == FEEDS / 2 ? HUGE_ONE : KEPT + (size_t)((rdp_test_value(2, (uint64_t)i) + 1) / 2 * (LARGEST - KEPT));
        memset(host, i % 251, bytes);
        RDP_MUST(ops->feed(device, to, host, bytes));
        RDP_MUST(ops->copy(device, (char *)keep + (size_t)i * KEPT, (char *)to + bytes - KEPT, KEPT));
    }
    RDP_MUST(ops->feed(device, to, host, 0));
    RDP_MUST(ops->download(device, kept, keep, (size_t)FEEDS * KEPT));
    for (int i = 0; i < FEEDS * KEPT; i++)
        if (kept[i] != i / KEPT % 251)
            fail_msg("feed %d arrived as %d", i / KEPT, kept[i]);
    ops->free(device, to);
    ops->free(device, keep);
    free(host);
    free(kept);
}

static void test_idle_and_stamps(void **unused)
{
    bool idle = false;
    double seconds = -1;
    void *data;
    (void)unused;
    RDP_MUST(ops->alloc(device, &data, 64 << 20, "a block"));
    RDP_MUST(ops->stamp(device, 7));
    for (int i = 0; i < 4; i++)
        RDP_MUST(ops->zero(device, data, 64 << 20));
    RDP_MUST(ops->stamp(device, RDP_STAMPS - 1));
    for (long polls = 0; !idle; polls++) { /* it must come about by asking alone */
        RDP_MUST(ops->idle(device, &idle));
        assert_true(polls < 2000000000);
    }
    RDP_MUST(ops->stamp_seconds(device, 7, RDP_STAMPS - 1, &seconds));
    assert_true(seconds >= 0 && seconds < 60);
    RDP_MUST(ops->stamp(device, 7)); /* stamps are used again and again */
    RDP_MUST(ops->stamp_seconds(device, RDP_STAMPS - 1, 7, &seconds));
    assert_true(seconds >= 0);
    must_refuse(ops->stamp(device, RDP_STAMPS), RDP_EINTERNAL, "stamp");
    must_refuse(ops->stamp(device, -1), RDP_EINTERNAL, "stamp");
    must_refuse(ops->stamp_seconds(device, 7, 8, &seconds), RDP_EINTERNAL, "stamp");
    ops->free(device, data);
}

static void test_recording(void **unused)
{
    enum { COUNT = 1000 };
    struct rdp_recording *recording = NULL;
    float host[COUNT], *from, *to, *copy;
    (void)unused;
    for (int i = 0; i < COUNT; i++)
        host[i] = 1;
    float **all[] = {&from, &to, &copy};
    for (int i = 0; i < 3; i++)
        RDP_MUST(ops->alloc(device, (void **)all[i], sizeof host, "a block"));
    RDP_MUST(ops->upload(device, from, host, sizeof host));
    RDP_MUST(ops->add(device, to, from, COUNT)); /* warm */
    RDP_MUST(ops->zero(device, to, sizeof host));

    RDP_MUST(ops->record_begin(device));
    RDP_MUST(ops->add(device, to, from, COUNT));
    RDP_MUST(ops->copy(device, copy, to, sizeof host));
    RDP_MUST(ops->zero(device, from, sizeof(float)));
    RDP_MUST(ops->record_end(device, &recording));
    assert_non_null(recording);
    RDP_MUST(ops->synchronize(device));
    assert_true(first_of(to) == 0 && first_of(from) == 1); /* recorded, not run */

    for (int replay = 1; replay <= 3; replay++) {
        RDP_MUST(ops->feed(device, from, host, sizeof host)); /* between replays, in order with them */
        RDP_MUST(ops->replay(device, recording));
    }
    assert_true(first_of(to) == 3 && first_of(copy) == 3 && first_of(from) == 0);
    ops->recording_destroy(device, recording);
    ops->recording_destroy(device, NULL);
    for (int i = 0; i < 3; i++)
        ops->free(device, *all[i]);
}

/* What cannot be part of a recording is refused and does not spoil it; a recording can be dropped; the device goes on.
 */
static void test_recording_refuses(void **unused)
{
    struct rdp_recording *recording = NULL;
    float host = 2, *data;
    void *other;
    bool idle;
    double seconds;
    (void)unused;
    RDP_MUST(ops->alloc(device, (void **)&data, sizeof host, "a block"));
    must_refuse(ops->record_end(device, NULL), RDP_EINTERNAL, "record_begin");
    for (int drop = 0; drop < 2; drop++) {
        RDP_MUST(ops->record_begin(device));
        must_refuse(ops->record_begin(device), RDP_EINTERNAL, "--graph no");
        must_refuse(ops->feed(device, data, &host, sizeof host), RDP_EINTERNAL, "feed");
        must_refuse(ops->upload(device, data, &host, sizeof host), RDP_EINTERNAL, "upload");
        must_refuse(ops->download(device, &host, data, sizeof host), RDP_EINTERNAL, "download");
        must_refuse(ops->alloc(device, &other, 16, "a block"), RDP_EINTERNAL, "alloc");
        must_refuse(ops->synchronize(device), RDP_EINTERNAL, "synchronize");
        must_refuse(ops->idle(device, &idle), RDP_EINTERNAL, "idle");
        must_refuse(ops->stamp(device, 0), RDP_EINTERNAL, "stamp");
        must_refuse(ops->stamp_seconds(device, 0, 0, &seconds), RDP_EINTERNAL, "stamp");
        RDP_MUST(ops->zero(device, data, sizeof host));
        RDP_MUST(ops->record_end(device, drop ? NULL : &recording));
        RDP_MUST(ops->upload(device, data, &host, sizeof host));
        assert_true(first_of(data) == 2);
    }
    RDP_MUST(ops->replay(device, recording));
    assert_true(first_of(data) == 0);
    ops->recording_destroy(device, recording);
    ops->free(device, data);
}

static void test_profiling(void **unused)
{
    (void)unused;
    ops->range_push(device, "outer");
    ops->range_push(device, "inner");
    ops->range_pop(device);
    ops->range_pop(device);
    RDP_MUST(ops->profile(device, true));
    RDP_MUST(ops->profile(device, false));
}

/* A device that is closed in the middle of a recording, or at once, leaves nothing behind that the next one meets. */
static void test_close(void **unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++) {
        struct rdp_device *other = rdp_open_cuda(RDP_KERNEL_F32);
        assert_non_null(other);
        if (i == 1)
            RDP_MUST(other->ops->record_begin(other));
        rdp_device_close(other);
    }
    RDP_MUST(ops->synchronize(device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),  cmocka_unit_test(test_memory),
        cmocka_unit_test(test_feed),      cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_recording), cmocka_unit_test(test_idle_and_stamps),
        cmocka_unit_test(test_profiling), cmocka_unit_test(test_recording_refuses),
        cmocka_unit_test(test_close),
    };
    device = rdp_open_cuda(RDP_KERNEL_F32);
    if (device == NULL)
        return 77;
    ops = device->ops;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rdp_device_close(device);
    return failed;
}
