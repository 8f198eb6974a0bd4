/* Signals; see signals.h. The handler only stores: nothing else is safe there. */
#include "signals.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t received;

static void remember(int number)
{
    if (received == SIGINT && number == SIGINT) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
    }
    received = number;
}

void rdp_signals_catch(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    action.sa_flags = SA_RESTART; /* a half-written file is worse than a second's delay */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit shall be an error of write(), not the end */
    signal(SIGPIPE, SIG_IGN);
}

int rdp_signals_stop(void)
{
    return received;
}
