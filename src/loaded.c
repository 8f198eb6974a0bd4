/* A trained network from a checkpoint; see loaded.h. */
#include "loaded.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "optimiser.h"
#include "options_table.h"
#include "snapshot.h"

/* The model is the run's, and so is what the command takes from runs unless it is told otherwise. */
static void take_run_options(struct rdp_options *options, const struct rdp_options *run)
{
    const struct rdp_options command = *options;
    *options = *run;
    for (size_t i = 0; i < rdp_option_count; i++) {
        const struct rdp_option *option = &rdp_option_rows[i];
        if ((option->commands & (RDP_CMD_EVAL | RDP_CMD_PREDICT)) &&
            (command.given[i] || !(option->flags & RDP_OPTION_OF_RUN)))
            rdp_option_copy(option, options, &command);
    }
    options->fuse_statistics = RDP_FUSE_STATISTICS_NO; /* nothing is trained */
    options->argument_count = command.argument_count;
    options->arguments = command.arguments;
}

int rdp_loaded_read(struct rdp_loaded *loaded, const struct rdp_options *options)
{
    struct rdp_options run;
    memset(loaded, 0, sizeof *loaded);
    RDP_TRY(rdp_checkpoint_read(&loaded->checkpoint, options->checkpoint));
    RDP_TRY(rdp_snapshot_options(loaded->checkpoint, &run));
    RDP_TRY(rdp_options_check(&run));
    RDP_TRY(rdp_snapshot_data(loaded->checkpoint, &loaded->info));
    loaded->options = *options;
    take_run_options(&loaded->options, &run);
    memcpy(loaded->normalise.mean, loaded->info.mean, sizeof loaded->normalise.mean);
    memcpy(loaded->normalise.std, loaded->info.std, sizeof loaded->normalise.std);
    return RDP_OK;
}

int rdp_loaded_network(struct rdp_loaded *loaded, struct rdp_device *device, int batch)
{
    const struct rdp_network_config config = {.batch = batch};
    const bool averages = rdp_optimiser_evaluates_averages(&loaded->options);
    RDP_TRY(rdp_model_create(&loaded->model, &loaded->options, loaded->info.classes));
    RDP_TRY(rdp_network_create(&loaded->network, loaded->model, device, &config));
    RDP_TRY(rdp_snapshot_weights(loaded->checkpoint, loaded->network, averages));
    rdp_checkpoint_destroy(loaded->checkpoint);
    loaded->checkpoint = NULL;
    return RDP_OK;
}

void rdp_loaded_say(const struct rdp_loaded *loaded, const struct rdp_device *device)
{
    char blocks[RDP_STAGES_MAX * 12] = "", count[32];
    size_t used = 0;
    for (int i = 0; i < loaded->options.blocks.count; i++)
        used += (size_t)snprintf(blocks + used, sizeof blocks - used, "%s%d", i > 0 ? "," : "",
                                 loaded->options.blocks.values[i]);
    rdp_say("%s: %s blocks %s, %s parameters%s\n", loaded->options.checkpoint,
            loaded->options.block == RDP_BLOCK_BASIC ? "basic" : "bottleneck", blocks,
            rdp_format_thousands(count, sizeof count, rdp_model_parameters(loaded->model)),
            rdp_optimiser_evaluates_averages(&loaded->options) ? ", averaged" : "");
    rdp_say("%s, %s, %d images per pass\n", device->description, rdp_precision_text(&loaded->options),
            loaded->network->config.batch);
}

void rdp_loaded_free(struct rdp_loaded *loaded)
{
    rdp_network_destroy(loaded->network);
    rdp_model_destroy(loaded->model);
    rdp_checkpoint_destroy(loaded->checkpoint);
    memset(loaded, 0, sizeof *loaded);
}
