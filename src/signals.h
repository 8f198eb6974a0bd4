/*
 * Being told to stop: SIGTERM, SIGUSR1 (Slurm's --signal) and SIGINT set a flag that the trainer reads between steps. A
 * second SIGINT ends the program at once.
 */
#ifndef RDP_SIGNALS_H
#define RDP_SIGNALS_H

void rdp_signals_catch(void);
/* The signal that arrived, 0 if none. */
int rdp_signals_stop(void);

#endif
