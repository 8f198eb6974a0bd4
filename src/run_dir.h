/*
 * The run directory: recipe.ini, metrics, plots, summary.json, checkpoints/. One run at a time uses it: rank 0 holds a
 * lock (run.lock) for as long as it lives.
 */
#ifndef RDP_RUN_DIR_H
#define RDP_RUN_DIR_H

#include "comm/comm.h"
#include "options.h"

/* Fills options->run_dir if it is empty ("runs/<recipe>-<UTC time>", rank 0's clock), the same on all ranks; rank 0
 * creates and locks it. RDP_EUSAGE if it holds a run and neither --resume nor --force says what to do with it, or
 * another process uses it. Agreed by all ranks. *lock is rank 0's descriptor, -1 elsewhere; closing it ends the lock.
 */
int rdp_run_dir_open(struct rdp_options *options, struct rdp_comm *comm, int *lock);
/* "basic-2111" of "jobs/recipes/basic-2111.ini", cut to `size`: what directories are named after. */
void rdp_run_dir_stem(const char *path, char *stem, size_t size);
/* "<run dir>/checkpoints" and other names in it. */
void rdp_run_dir_path(const struct rdp_options *options, const char *name, char *path, size_t size);

#endif
