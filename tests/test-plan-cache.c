/*
 * The disk cache of convolution plans: round trip, ranks that write at the same time, the first choice that wins,
 * plans that were refused, damaged lines, files that are something else, files that cannot be written.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"
#include "kernels/cuda/plan_cache.h"

static char directory[64], path[PATH_MAX], words[PATH_MAX];

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/rdp-plans-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/plans.txt", directory);
    snprintf(words, sizeof words, "%s/stderr.txt", directory);
    return 0;
}

/* Removes the files and says how many there were besides those of this test: no temporary file may stay. */
static int remove_directory(void **state)
{
    (void)state;
    int others = 0;
    DIR *opened = opendir(directory);
    for (struct dirent *entry; opened != NULL && (entry = readdir(opened)) != NULL;) {
        char name[PATH_MAX];
        if (entry->d_name[0] == '.')
            continue;
        others += strcmp(entry->d_name, "plans.txt") != 0 && strcmp(entry->d_name, "stderr.txt") != 0;
        snprintf(name, sizeof name, "%s/%s", directory, entry->d_name);
        if (unlink(name) != 0)
            rmdir(name);
    }
    closedir(opened);
    return rmdir(directory) != 0 || others != 0 ? -1 : 0;
}

static struct plan_entry make_entry(const char *key, int engine, int knobs, double microseconds)
{
    struct plan_entry entry = {.choice = {.engine = engine, .knob_count = knobs}, .microseconds = microseconds};
    snprintf(entry.key, sizeof entry.key, "%s", key);
    for (int i = 0; i < knobs; i++)
        entry.choice.knobs[i] = (struct plan_knob){.type = 3 * i, .value = i % 2 == 0 ? 1000000007LL * i : -i};
    return entry;
}

static struct plan_cache *open_cache(const char *file)
{
    struct plan_cache *cache = NULL;
    assert_int_equal(plan_cache_open(&cache, file), RDP_OK);
    return cache;
}

static void expect_entry(const struct plan_cache *cache, const struct plan_entry *wanted)
{
    const struct plan_entry *found = plan_cache_find(cache, wanted->key);
    assert_non_null(found);
    assert_true(plan_choice_equal(&found->choice, &wanted->choice));
    /* Three decimals are written. */
    assert_float_equal(found->microseconds, wanted->microseconds, 0.00051);
}

static void write_text(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
}

static void read_text(const char *name, char *text, size_t size)
{
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* stderr goes to a file from here until warnings() counts its lines. */
static int kept_stderr = -1;

static void catch_warnings(void)
{
    fflush(stderr);
    kept_stderr = dup(2);
    int file = open(words, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(kept_stderr >= 0 && file >= 0);
    dup2(file, 2);
    close(file);
}

static int warnings(const char *expected)
{
    char text[4096];
    int count = 0;
    fflush(stderr);
    dup2(kept_stderr, 2);
    close(kept_stderr);
    read_text(words, text, sizeof text);
    for (const char *c = text; *c != '\0'; c++)
        count += *c == '\n';
    if (count > 0)
        assert_non_null(strstr(text, expected));
    return count;
}

static void test_memory_only(void **state)
{
    (void)state;
    struct plan_cache *cache = open_cache("");
    struct plan_entry entry = make_entry("a", 62, 5, 41.25);
    assert_null(plan_cache_find(cache, "a"));
    assert_int_equal(plan_cache_store(cache, &entry, NULL), RDP_OK);
    expect_entry(cache, &entry);
    plan_cache_close(cache);
    plan_cache_close(NULL);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct plan_entry entries[100];
    struct plan_cache *cache = open_cache(path);
    for (int i = 0; i < 100; i++) {
        char key[PLAN_KEY];
        snprintf(key, sizeof key, "cuDNN 9.19.0, NVIDIA H200, bf16 forward N %d", i);
        entries[i] = make_entry(key, i, i % (PLAN_KNOBS + 1), 1.5 * i);
        entries[i].choice.family = i % PLAN_FAMILIES;
        assert_int_equal(plan_cache_store(cache, &entries[i], NULL), RDP_OK);
    }
    plan_cache_close(cache);
    cache = open_cache(path);
    for (int i = 0; i < 100; i++)
        expect_entry(cache, &entries[i]);
    assert_null(plan_cache_find(cache, "cuDNN 9.19.0, NVIDIA H200, bf16 forward N 100"));
    plan_cache_close(cache);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0644);
}

/* Two ranks time the same problem: both compute with the choice that was written first. */
static void test_first_wins(void **state)
{
    (void)state;
    struct plan_cache *first = open_cache(path), *second = open_cache(path);
    struct plan_entry one = make_entry("same", 62, 2, 40), other = make_entry("same", 22, 3, 39);
    struct plan_entry third = make_entry("other", 7, 0, 5);
    assert_int_equal(plan_cache_store(first, &one, NULL), RDP_OK);
    assert_int_equal(plan_cache_store(second, &other, NULL), RDP_OK);
    assert_true(plan_choice_equal(&one.choice, &other.choice));
    assert_int_equal(plan_cache_store(second, &third, NULL), RDP_OK);
    plan_cache_close(first);
    plan_cache_close(second);
    first = open_cache(path);
    expect_entry(first, &one);
    expect_entry(first, &third);
    plan_cache_close(first);
}

/* A choice that does not work any more is replaced by the first rank that notices; the second takes over that. */
static void test_refused(void **state)
{
    (void)state;
    struct plan_entry old = make_entry("problem", 1, 1, 10), new = make_entry("problem", 2, 1, 11);
    struct plan_entry late = make_entry("problem", 3, 1, 12);
    struct plan_cache *cache = open_cache(path);
    assert_int_equal(plan_cache_store(cache, &old, NULL), RDP_OK);
    struct plan_cache *second = open_cache(path);
    assert_int_equal(plan_cache_store(cache, &new, &old.choice), RDP_OK);
    assert_int_equal(new.choice.engine, 2);
    assert_int_equal(plan_cache_store(second, &late, &old.choice), RDP_OK);
    assert_int_equal(late.choice.engine, 2);
    plan_cache_close(cache);
    plan_cache_close(second);
    cache = open_cache(path);
    expect_entry(cache, &new);
    plan_cache_close(cache);
}

static void test_damaged_lines(void **state)
{
    (void)state;
    struct plan_cache *cache = open_cache(path);
    struct plan_entry good = make_entry("good", 62, 2, 40), fresh = make_entry("fresh", 5, 0, 1);
    assert_int_equal(plan_cache_store(cache, &good, NULL), RDP_OK);
    plan_cache_close(cache);
    static const char *const damaged[] = {"words\n",
                                          "\n",
                                          "k1\tplain\t62\t-\n",
                                          "k2\tplain\t62\t-\t1.0\tmore\n",
                                          "k3\tbent\t62\t-\t1.0\n",
                                          "k4\tplain\t-1\t-\t1.0\n",
                                          "k5\tplain\t62\t2=\t1.0\n",
                                          "k6\tplain\t62\t2=1,2=3\t1.0\n",
                                          "k7\tplain\t62\t2=1,\t1.0\n",
                                          "k8\tplain\t62\t-\tnan\n",
                                          "k9\tplain\t99999999999999999999\t-\t1.0\n",
                                          "\tplain\t62\t-\t1.0\n",
                                          "k10\tplain\t62\t-\t1.0" /* no end of line: cut off */};
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++)
        fputs(damaged[i], file);
    fclose(file);
    catch_warnings();
    cache = open_cache(path);
    int status = plan_cache_store(cache, &fresh, NULL);
    assert_int_equal(warnings("13 damaged lines"), 1);
    assert_int_equal(status, RDP_OK);
    expect_entry(cache, &good);
    assert_null(plan_cache_find(cache, "k10"));
    assert_null(plan_cache_find(cache, "k6"));
    plan_cache_close(cache);
    catch_warnings();
    cache = open_cache(path);
    assert_int_equal(warnings(""), 0);
    expect_entry(cache, &good);
    expect_entry(cache, &fresh);
    plan_cache_close(cache);
}

static void test_other_file(void **state)
{
    (void)state;
    static const char text[] = "# my notes\nnot a plan cache\n";
    write_text(text);
    struct plan_entry entry = make_entry("a", 62, 0, 1);
    catch_warnings();
    struct plan_cache *cache = open_cache(path);
    int status = plan_cache_store(cache, &entry, NULL);
    assert_int_equal(warnings("is no plan cache"), 1);
    assert_int_equal(status, RDP_OK);
    expect_entry(cache, &entry);
    plan_cache_close(cache);
    char now[256];
    read_text(path, now, sizeof now);
    assert_string_equal(now, text);
}

/* An empty file (touch, or a crash of something else) may be filled. */
static void test_empty_file(void **state)
{
    (void)state;
    write_text("");
    struct plan_cache *cache = open_cache(path);
    struct plan_entry entry = make_entry("a", 62, 0, 1);
    assert_int_equal(plan_cache_store(cache, &entry, NULL), RDP_OK);
    plan_cache_close(cache);
    cache = open_cache(path);
    expect_entry(cache, &entry);
    plan_cache_close(cache);
}

static void test_cannot_write(void **state)
{
    (void)state;
    char nowhere[PATH_MAX];
    snprintf(nowhere, sizeof nowhere, "%s/missing/plans.txt", directory);
    struct plan_entry entry = make_entry("a", 62, 0, 1), more = make_entry("b", 5, 0, 1);
    catch_warnings();
    struct plan_cache *cache = open_cache(nowhere);
    int status = plan_cache_store(cache, &entry, NULL), again = plan_cache_store(cache, &more, NULL);
    assert_int_equal(warnings("cannot be written: No such file or directory"), 1);
    assert_int_equal(status, RDP_OK);
    assert_int_equal(again, RDP_OK);
    expect_entry(cache, &entry);
    expect_entry(cache, &more);
    plan_cache_close(cache);
}

/* The name of a directory: reading fails, and nothing is renamed over it. */
static void test_is_directory(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    struct plan_entry entry = make_entry("a", 62, 0, 1);
    catch_warnings();
    struct plan_cache *cache = open_cache(path);
    int status = plan_cache_store(cache, &entry, NULL);
    assert_int_equal(warnings("cannot be read"), 1);
    assert_int_equal(status, RDP_OK);
    plan_cache_close(cache);
}

enum { RANKS = 6, OWN = 12, SHARED = 12 };

/* One rank: problems of its own and some that all have; exit code 0 if its choices are the file's in the end. */
static int one_rank(int rank)
{
    struct plan_cache *cache = NULL;
    struct plan_entry shared[SHARED];
    int bad = plan_cache_open(&cache, path) != RDP_OK;
    for (int i = 0; i < OWN + SHARED && !bad; i++) {
        char key[PLAN_KEY];
        bool is_own = i % 2 == 0;
        snprintf(key, sizeof key, is_own ? "own %d of rank %d" : "shared %d", i / 2, rank);
        struct plan_entry entry = make_entry(key, 100 * rank + i, rank, i + 1);
        bad = plan_cache_store(cache, &entry, NULL) != RDP_OK;
        if (!is_own)
            shared[i / 2] = entry;
    }
    plan_cache_close(cache);
    if (!bad && plan_cache_open(&cache, path) == RDP_OK) {
        for (int i = 0; i < SHARED; i++) {
            const struct plan_entry *found = plan_cache_find(cache, shared[i].key);
            bad |= found == NULL || !plan_choice_equal(&found->choice, &shared[i].choice);
        }
        plan_cache_close(cache);
    }
    return bad;
}

static void test_many_ranks(void **state)
{
    (void)state;
    pid_t ranks[RANKS];
    for (int rank = 0; rank < RANKS; rank++) {
        ranks[rank] = fork();
        assert_true(ranks[rank] >= 0);
        if (ranks[rank] == 0)
            _exit(one_rank(rank));
    }
    for (int rank = 0; rank < RANKS; rank++) {
        int result = -1;
        assert_int_equal(waitpid(ranks[rank], &result, 0), ranks[rank]);
        assert_int_equal(result, 0);
    }
    struct plan_cache *cache = open_cache(path);
    for (int rank = 0; rank < RANKS; rank++)
        for (int i = 0; i < OWN; i++) {
            char key[PLAN_KEY];
            snprintf(key, sizeof key, "own %d of rank %d", i, rank);
            assert_non_null(plan_cache_find(cache, key));
        }
    plan_cache_close(cache);
}

int main(void)
{
#define PLAN_TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        PLAN_TEST(test_memory_only), PLAN_TEST(test_round_trip),    PLAN_TEST(test_first_wins),
        PLAN_TEST(test_refused),     PLAN_TEST(test_damaged_lines), PLAN_TEST(test_other_file),
        PLAN_TEST(test_empty_file),  PLAN_TEST(test_cannot_write),  PLAN_TEST(test_is_directory),
        PLAN_TEST(test_many_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
