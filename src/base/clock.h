/* The program's one clock for durations. */
#ifndef RDP_BASE_CLOCK_H
#define RDP_BASE_CLOCK_H

/* Seconds since some moment of the past; never runs backwards, whatever happens to the date (CLOCK_MONOTONIC). */
double rdp_now(void);

#endif
