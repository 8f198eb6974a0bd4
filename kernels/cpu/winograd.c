/*
 * Winograd convolutions: the order of the work and its split over threads. The arithmetic is in winograd_<set>.c.
 *
 * Images are cut into tiles of 4 x 4 outputs, counted through all images of a call and worked on in blocks of tiles. A
 * block goes through three phases: transform the inputs, multiply at each of the 36 positions, transform back. Between
 * phases its lines lie position by position: V[position][channel block][tile][16 channels], products M likewise, so
 * that a matrix product reads and writes whole lines that follow each other. A position's length is an odd number of
 * lines: the 36 lines that a transform touches then fall into different sets of the caches.
 *
 * The transformed weights U[position][pair of output blocks][input channel][32 output channels] are read in order.
 */
#include <omp.h>
#include <stdint.h>

#include "kernels/cpu/winograd.h"
#include "kernels/cpu/winograd_kernels.h"

enum {
    LINE = RDP_WINOGRAD_LINE,
    POSITIONS = RDP_WINOGRAD_POSITIONS,
    TILE = 4,
    WEIGHTS_BLOCK = 9 * LINE * LINE, /* floats of a 16 x 16 block of stored weights */
    PRODUCT_BLOCK = LINE * LINE,
    /* Tiles in a block. OWN: of one thread, whose V and M then stay near it. SHARED: of all threads, many, because the
     * weights or their gradient pass through the cache once per block. */
    OWN_TILES = 28,
    OWN_GRADIENT_TILES = 64,
    SHARED_TILES = 128
};

/*
 * Transformed weights up to this size stay in the last-level cache: each thread reads all of them, or sums up a
 * gradient of its own, and waits for nobody. Larger ones are shared: all threads work on the same block of tiles, each
 * on its part of the weights.
 */
static const size_t own_limit = (size_t)4 << 20;

static const struct rdp_winograd_kernels *kernels(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return &rdp_winograd_avx512;
#endif
    return NULL;
}

bool rdp_winograd_supported(void)
{
    return kernels() != NULL;
}

/* Floats between two positions of an array of `blocks` x `tiles` lines. */
static size_t line_stride(int blocks, int tiles)
{
    return (((size_t)blocks * (size_t)tiles) | 1) * LINE;
}

/* The same for 16 x 16 blocks: of transformed weights, and of their gradient. */
static size_t block_stride(const struct rdp_winograd *plan)
{
    return (size_t)plan->input_blocks * (size_t)plan->output_blocks * PRODUCT_BLOCK + LINE;
}

static int tiles_per_image(const struct rdp_winograd *plan)
{
    return ((plan->height + TILE - 1) / TILE) * ((plan->width + TILE - 1) / TILE);
}

static bool shares_blocks(const struct rdp_winograd *plan)
{
    return plan->transformed_bytes > own_limit;
}

static int block_tiles(const struct rdp_winograd *plan, int own)
{
    return shares_blocks(plan) ? SHARED_TILES : own;
}

/* Floats of a block's transformed lines on the input's and the output's side. */
static size_t lines_size(const struct rdp_winograd *plan, int tiles)
{
    return POSITIONS * (line_stride(plan->input_blocks, tiles) + line_stride(plan->output_blocks, tiles));
}

/* The part of `count` things that the `index`-th of `parts` takes. */
struct range {
    int begin, end;
};

static struct range part_of(int count, int parts, int index)
{
    return (struct range){(int)((int64_t)count * index / parts), (int)((int64_t)count * (index + 1) / parts)};
}

static int divide_up(int count, int by)
{
    return (count + by - 1) / by;
}

void rdp_winograd_plan(struct rdp_winograd *plan, int height, int width, int input_channels, int output_channels,
                       bool bf16, int threads)
{
    *plan = (struct rdp_winograd){.height = height,
                                  .width = width,
                                  .input_blocks = divide_up(input_channels, LINE),
                                  .output_blocks = divide_up(output_channels, LINE),
                                  .bf16 = bf16,
                                  .threads = threads};
    plan->transformed_bytes = POSITIONS * block_stride(plan) * sizeof(float);
    size_t teams = shares_blocks(plan) ? 1 : (size_t)threads;
    size_t convolution = lines_size(plan, block_tiles(plan, OWN_TILES));
    size_t gradient = lines_size(plan, block_tiles(plan, OWN_GRADIENT_TILES)) + POSITIONS * block_stride(plan);
    plan->workspace_bytes = teams * (convolution > gradient ? convolution : gradient) * sizeof(float);
}

/* Where tile `index` of a call lies, and the start of its plane in channel block `block` of `blocks`. */
static char *locate(const struct rdp_winograd *plan, const void *tensor, int blocks, int block, int index,
                    struct rdp_winograd_tile *tile)
{
    int per_image = tiles_per_image(plan), across = divide_up(plan->width, TILE);
    int image = index / per_image, place = index % per_image;
    size_t plane = ((size_t)image * (size_t)blocks + (size_t)block) * (size_t)plan->height * (size_t)plan->width * LINE;
    *tile = (struct rdp_winograd_tile){.height = plan->height,
                                       .width = plan->width,
                                       .row = place / across * TILE,
                                       .column = place % across * TILE,
                                       .bf16 = plan->bf16};
    return (char *)(uintptr_t)tensor + plane * (plan->bf16 ? sizeof(uint16_t) : sizeof(float));
}

/* The threads that work on one block: this one's index and their number. Alone, they need not wait. */
struct team {
    int index, size;
};

static void wait_for(struct team team)
{
    if (team.size > 1) {
#pragma omp barrier
    }
}

/* ---- forward and backward data
 * ---------------------------------------------------------------------------------------- */

struct convolution {
    const struct rdp_winograd *plan;
    const void *x;
    const float *u;
    void *y;
    int input_blocks, output_blocks; /* swapped for backward data */
    int tiles;
};

/* One position, one pair of output blocks, all tiles of a block. Panels of nearly equal size: none too small to fill
 * the pipeline. */
static void multiply(const struct rdp_winograd_kernels *k, const float *v, int input_blocks, const float *u,
                     int outputs, int tiles, float *m)
{
    size_t block = (size_t)tiles * LINE;
    int panels = divide_up(tiles, RDP_WINOGRAD_PANEL);
    for (int i = 0; i < panels; i++) {
        struct range t = part_of(tiles, panels, i);
        k->product(v + (size_t)t.begin * LINE, block, input_blocks, u, t.end - t.begin, outputs,
                   m + (size_t)t.begin * LINE, block);
    }
}

static void convolve_block(const struct convolution *c, struct range block, float *workspace, struct team team)
{
    const struct rdp_winograd_kernels *k = kernels();
    struct rdp_winograd_tile tile;
    int tiles = block.end - block.begin, pairs = divide_up(c->output_blocks, 2);
    size_t v_stride = line_stride(c->input_blocks, tiles), m_stride = line_stride(c->output_blocks, tiles);
    float *v = workspace, *m = workspace + POSITIONS * v_stride;

    struct range part = part_of(c->input_blocks * tiles, team.size, team.index);
    for (int i = part.begin; i < part.end; i++) {
        const char *plane = locate(c->plan, c->x, c->input_blocks, i / tiles, block.begin + i % tiles, &tile);
        k->input(plane, &tile, v + (size_t)i * LINE, v_stride);
    }
    wait_for(team);
    part = part_of(POSITIONS * pairs, team.size, team.index);
    for (int i = part.begin; i < part.end; i++) {
        size_t position = (size_t)(i / pairs), first = (size_t)(i % pairs) * 2;
        int outputs = first + 2 <= (size_t)c->output_blocks ? 2 : 1;
        multiply(k, v + position * v_stride, c->input_blocks,
                 c->u + position * block_stride(c->plan) + first * (size_t)c->input_blocks * PRODUCT_BLOCK, outputs,
                 tiles, m + position * m_stride + first * (size_t)tiles * LINE);
    }
    wait_for(team);
    part = part_of(c->output_blocks * tiles, team.size, team.index);
    for (int i = part.begin; i < part.end; i++) {
        char *plane = locate(c->plan, c->y, c->output_blocks, i / tiles, block.begin + i % tiles, &tile);
        k->output(m + (size_t)i * LINE, m_stride, plane, &tile);
    }
    /* The next block's inputs, if it has a tile more, reach into these products. */
    wait_for(team);
}

/* What one thread works through: blocks of tiles, of its own or of all threads, and its own or the common workspace. */
struct share {
    struct team team;
    int teams; /* that have tiles: the first ones */
    struct range tiles;
    float *workspace;
};

static struct share share_of(const struct rdp_winograd *plan, int tiles, float *workspace, size_t own_size)
{
    int index = omp_get_thread_num(), size = omp_get_num_threads();
    if (shares_blocks(plan))
        return (struct share){{index, size}, 1, {0, tiles}, workspace};
    int teams = size < tiles ? size : tiles;
    struct range part = index < teams ? part_of(tiles, teams, index) : (struct range){0, 0};
    return (struct share){{0, 1}, teams, part, workspace + (size_t)index * own_size};
}

/* The `index`-th of the `blocks` nearly equal blocks of a share. */
static struct range block_of(const struct share *share, int blocks, int index)
{
    struct range block = part_of(share->tiles.end - share->tiles.begin, blocks, index);
    return (struct range){share->tiles.begin + block.begin, share->tiles.begin + block.end};
}

static void convolve(const struct convolution *c, float *workspace)
{
    int most = block_tiles(c->plan, OWN_TILES);
#pragma omp parallel num_threads(c->plan->threads)
    {
        struct share share = share_of(c->plan, c->tiles, workspace, lines_size(c->plan, most));
        int blocks = divide_up(share.tiles.end - share.tiles.begin, most);
        for (int i = 0; i < blocks; i++)
            convolve_block(c, block_of(&share, blocks, i), share.workspace, share.team);
    }
}

void rdp_winograd_forward(const struct rdp_winograd *plan, const void *x, const float *forward, void *y, int images,
                          void *workspace)
{
    struct convolution c = {
        plan, x, forward, y, plan->input_blocks, plan->output_blocks, images * tiles_per_image(plan)};
    convolve(&c, workspace);
}

void rdp_winograd_backward_data(const struct rdp_winograd *plan, const void *dy, const float *backward, void *dx,
                                int images, void *workspace)
{
    struct convolution c = {
        plan, dy, backward, dx, plan->output_blocks, plan->input_blocks, images * tiles_per_image(plan)};
    convolve(&c, workspace);
}

/* ---- weights
 * ---------------------------------------------------------------------------------------------------------- */

/* Where the 16 rows of block (reduced, kept) begin in U: pairs of kept blocks, whose rows of 32 floats follow each
 * other; an odd last block has rows of 16. */
static float *transformed_block(float *u, int reduced_blocks, int kept_blocks, int reduced, int kept, size_t *row)
{
    int first = kept / 2 * 2;
    *row = first + 2 <= kept_blocks ? 2 * LINE : LINE;
    return u + (size_t)first * (size_t)reduced_blocks * PRODUCT_BLOCK + (size_t)reduced * LINE * *row +
           (size_t)(kept - first) * LINE;
}

void rdp_winograd_weights(const struct rdp_winograd *plan, const float *stored, float *forward, float *backward)
{
    int inputs = plan->input_blocks, outputs = plan->output_blocks;
#pragma omp parallel for schedule(static) num_threads(plan->threads)
    for (int i = 0; i < inputs * outputs; i++) {
        int output = i / inputs, input = i % inputs;
        const float *block = stored + (size_t)i * WEIGHTS_BLOCK;
        size_t row;
        if (forward != NULL) {
            float *u = transformed_block(forward, inputs, outputs, input, output, &row);
            kernels()->weights(block, false, u, row, block_stride(plan));
        }
        if (backward != NULL) {
            float *u = transformed_block(backward, outputs, inputs, output, input, &row);
            kernels()->weights(block, true, u, row, block_stride(plan));
        }
    }
}

struct gradient {
    const struct rdp_winograd *plan;
    const void *x, *dy;
    int tiles;
};

/*
 * workspace: the products summed up so far [position][output block][input block][16][16], then B^T d B and A dY A^T. A
 * team shares positions and output blocks, not tiles: every sum has one owner and one order.
 */
static void gradient_block(const struct gradient *c, struct range block, float *workspace, bool add, struct team team)
{
    const struct rdp_winograd_kernels *k = kernels();
    const struct rdp_winograd *plan = c->plan;
    struct rdp_winograd_tile tile;
    int tiles = block.end - block.begin, inputs = plan->input_blocks, pairs = divide_up(plan->output_blocks, 2);
    size_t v_stride = line_stride(inputs, tiles), g_stride = line_stride(plan->output_blocks, tiles);
    size_t lines = (size_t)tiles * LINE, row = (size_t)inputs * PRODUCT_BLOCK;
    float *v = workspace + POSITIONS * block_stride(plan), *g = v + POSITIONS * v_stride;

    struct range part = part_of(inputs * tiles, team.size, team.index);
    for (int i = part.begin; i < part.end; i++) {
        const char *plane = locate(plan, c->x, inputs, i / tiles, block.begin + i % tiles, &tile);
        k->input(plane, &tile, v + (size_t)i * LINE, v_stride);
    }
    part = part_of(plan->output_blocks * tiles, team.size, team.index);
    for (int i = part.begin; i < part.end; i++) {
        const char *plane = locate(plan, c->dy, plan->output_blocks, i / tiles, block.begin + i % tiles, &tile);
        k->gradient(plane, &tile, g + (size_t)i * LINE, g_stride);
    }
    wait_for(team);
    part = part_of(POSITIONS * pairs, team.size, team.index);
    for (int i = part.begin; i < part.end; i++) {
        size_t position = (size_t)(i / pairs), output = (size_t)(i % pairs) * 2;
        int outputs = output + 2 <= (size_t)plan->output_blocks ? 2 : 1;
        float *sum = workspace + position * block_stride(plan) + output * row;
        for (int input = 0; input < inputs; input++)
            k->accumulate(v + position * v_stride + (size_t)input * lines, g + position * g_stride + output * lines,
                          lines, tiles, outputs, sum + (size_t)input * PRODUCT_BLOCK, row, add);
    }
    wait_for(team);
}

/* Adds weight block `index` of the sums that lie `own_size` floats apart to the first, in order. */
static void add_sums(const struct rdp_winograd *plan, float *sums, size_t own_size, int count, int index)
{
    for (int other = 1; other < count; other++)
        for (size_t position = 0; position < POSITIONS; position++) {
            float *to = sums + position * block_stride(plan) + (size_t)index * PRODUCT_BLOCK;
            const float *from = to + (size_t)other * own_size;
            for (int i = 0; i < PRODUCT_BLOCK; i++)
                to[i] += from[i];
        }
}

void rdp_winograd_backward_weights(const struct rdp_winograd *plan, const void *x, const void *dy, float *dw,
                                   int images, void *workspace)
{
    struct gradient c = {plan, x, dy, images * tiles_per_image(plan)};
    int most = block_tiles(plan, OWN_GRADIENT_TILES), weight_blocks = plan->input_blocks * plan->output_blocks;
    size_t own_size = lines_size(plan, most) + POSITIONS * block_stride(plan);
#pragma omp parallel num_threads(plan->threads)
    {
        struct share share = share_of(plan, c.tiles, workspace, own_size);
        int blocks = divide_up(share.tiles.end - share.tiles.begin, most);
        for (int i = 0; i < blocks; i++)
            gradient_block(&c, block_of(&share, blocks, i), share.workspace, i > 0, share.team);
#pragma omp barrier
        struct range part = part_of(weight_blocks, omp_get_num_threads(), omp_get_thread_num());
        for (int i = part.begin; i < part.end; i++) {
            add_sums(plan, workspace, own_size, share.teams, i);
            kernels()->weights_gradient((float *)workspace + (size_t)i * PRODUCT_BLOCK, block_stride(plan),
                                        dw + (size_t)i * WEIGHTS_BLOCK);
        }
    }
}
