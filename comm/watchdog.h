/*
 * The watchdog: why nothing hangs. A thread per rank looks once a second at a page that the ranks of a host share,
 * where each rank's main thread notes what it does and when it last moved on. When a rank has waited for a peer for
 * longer than the time-out, one message names the rank that is late (host, pid, what it was doing, whether the process
 * is stopped or only slow) and every rank ends with exit code 5.
 */
#ifndef RDP_COMM_WATCHDOG_H
#define RDP_COMM_WATCHDOG_H

#include <stddef.h>
#include <stdint.h>

struct rdp_launch;

/* Collective over the host's ranks. timeout_seconds 0: no watchdog (ticks cost one store all the same). */
int rdp_watchdog_start(const struct rdp_launch *launch, double timeout_seconds);
void rdp_watchdog_stop(void);

/* The main thread moved on. Cheap (one relaxed store); called per operation. */
void rdp_watchdog_tick(void);
/* What the main thread is in ("forward", "backward", "evaluation", ...; static text) and at which training step. */
void rdp_watchdog_phase(const char *phase, int64_t step);
/* What the main thread is in, as messages say it: "backward of step 117". */
void rdp_watchdog_describe(char *text, size_t size);
/* Brackets a wait for other ranks; `what` is copied (47 characters of it). `patient`: see rdp_comm_ops.barrier. Used by comm/ only. */
void rdp_watchdog_wait_begin(const char *what, int patient);
void rdp_watchdog_wait_end(void);

#endif
