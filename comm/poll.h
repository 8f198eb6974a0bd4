/* How the waits of comm/ poll; inside comm/ only. */
#ifndef RDP_COMM_POLL_H
#define RDP_COMM_POLL_H

#include <sched.h>
#include <time.h>

enum {
    RDP_POLLS_BEFORE_YIELD = 64, /* spin so long for a peer that is just about to answer */
    RDP_PATIENT_PAUSE_NS = 1000 * 1000
};

/* After a poll that found nothing: lets a rank on the same core run, or sleeps if the wait is for rank 0's own work
 * (`patient`). *polls counts the polls of this wait and starts at 0. */
static inline void rdp_poll_pause(int *polls, int patient)
{
    if (patient) {
        struct timespec pause = {0, RDP_PATIENT_PAUSE_NS};
        nanosleep(&pause, NULL);
    } else if (++*polls > RDP_POLLS_BEFORE_YIELD) {
        sched_yield();
    }
}

#endif
