/*
 * Timed convolution plans on disk: one line per problem, so that only the first run on a kind of GPU pays for the
 * timing, and so that a run that is resumed computes with the same engines as before. All ranks share one file. The
 * first choice that reaches it for a problem stays: plan_cache_store() hands it to the ranks that come later, which
 * makes their choices the same. Nothing here knows cuDNN; conv_plan.c makes the keys. Called by conv.c.
 */
#ifndef RDP_KERNELS_CUDA_PLAN_CACHE_H
#define RDP_KERNELS_CUDA_PLAN_CACHE_H

#include <stdbool.h>
#include <stdint.h>

enum { PLAN_KNOBS = 48 /* knob types that an engine may have: cuDNN 9.19 knows 44 */, PLAN_KEY = 256 };

/* How a convolution is computed by cuDNN's operation graph. */
enum plan_family {
    PLAN_PLAIN, /* the convolution alone; a gradient of weights in bf16 comes out in bf16 and is converted after it */
    PLAN_CAST,  /* gradient of weights in bf16: a cast behind the convolution writes f32 */
    PLAN_SUMS,  /* forward in bf16, and in the same kernel the sums that batch-norm's statistics are made of */
    PLAN_FAMILIES
};

/* One execution plan as numbers: what cuDNN needs to build it again. */
struct plan_choice {
    enum plan_family family;
    int64_t engine; /* cuDNN's global index */
    int knob_count;
    struct plan_knob {
        int type;
        int64_t value;
    } knobs[PLAN_KNOBS]; /* by type, ascending */
};

struct plan_entry {
    char key[PLAN_KEY]; /* no tab, no control characters */
    struct plan_choice choice;
    double microseconds;
};

struct plan_cache;

const char *plan_family_name(enum plan_family family); /* "plain", "cast", "sums" */
bool plan_choice_equal(const struct plan_choice *a, const struct plan_choice *b);

/* Reads `path` ("" for a cache in memory only). A file that is missing is an empty cache; one that cannot be read, has
 * damaged lines or is no plan cache costs one warning. RDP_ENOMEM. Owned by the caller. */
int plan_cache_open(struct plan_cache **cache, const char *path);
void plan_cache_close(struct plan_cache *cache); /* NULL-safe */
/* NULL if unknown. Valid until the next call with this cache. */
const struct plan_entry *plan_cache_find(const struct plan_cache *cache, const char *key);
/*
 * Adds *entry to the cache and the file. If the file got a choice for the same problem meanwhile, *entry becomes that
 * one instead, unless it is `refused` (may be NULL), a choice that was found not to work: that is replaced. A file that
 * cannot be written costs one warning. RDP_ENOMEM.
 */
int plan_cache_store(struct plan_cache *cache, struct plan_entry *entry, const struct plan_choice *refused);

#endif
