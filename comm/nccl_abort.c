/*
 * The end of a communicator after an error; see nccl_state.h. Only in builds with CUDA.
 *
 * ncclCommAbort makes the kernels that spin for a peer end at once. But it returns only when every recording that holds
 * a sum of the communicator has been destroyed (NCCL 2.28, init.cc, commDestroySync), and on its way synchronises
 * streams, which a thread that is recording one may not do. So it runs on a thread of its own, while the caller goes
 * on: to its error message, and to destroying its recordings.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "comm/nccl_state.h"
#include "comm/poll.h"
#include "comm/watchdog.h"

struct nccl_abort {
    ncclComm_t communicator;
    pthread_t thread;
    atomic_bool ended;
    bool given_up; /* a wait for it was in vain */
};

static void *run(void *argument)
{
    struct nccl_abort *abort = argument;

    (void)ncclCommAbort(abort->communicator);
    atomic_store(&abort->ended, true);
    return NULL;
}

void rdp_nccl_abort(struct nccl_state *state)
{
    ncclComm_t communicator = state->communicator;

    if (communicator == NULL)
        return;
    state->communicator = NULL;
    struct nccl_abort *abort = calloc(1, sizeof *abort);
    if (abort != NULL) {
        abort->communicator = communicator;
        if (pthread_create(&abort->thread, NULL, run, abort) == 0) {
            state->abort = abort;
            return;
        }
        free(abort);
    }
    (void)ncclCommAbort(communicator);
}

bool rdp_nccl_abort_is_over(struct nccl_state *state)
{
    struct nccl_abort *abort = state->abort;
    const double begun = rdp_now();
    int polls = 0;

    if (abort == NULL)
        return true;
    while (!atomic_load(&abort->ended)) {
        if (abort->given_up || rdp_now() - begun > NCCL_END_SECONDS) {
            abort->given_up = true;
            return false;
        }
        rdp_watchdog_tick();
        rdp_poll_pause(&polls, 0);
    }
    pthread_join(abort->thread, NULL);
    free(abort);
    state->abort = NULL;
    return true;
}
