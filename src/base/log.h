/*
 * What the program says while it runs. Results and progress go to stdout from rank 0 (rdp_say); warnings and errors go
 * to stderr from whichever rank has one, and name it. rdp_log_identity() is called once, as soon as the rank is known.
 */
#ifndef RDP_BASE_LOG_H
#define RDP_BASE_LOG_H

/* Names this process in later messages. `host` is copied. Before the call the process speaks as a lone rank 0. */
void rdp_log_identity(int rank, int size, const char *host);

/* Rank 0 only, stdout, flushed: a line (or part of one) that belongs to the program's output. */
void rdp_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Any rank, stderr: "resnet-dp: warning: ..." and a newline; "[rank 2 on node7]" before the text if there are several.
 */
void rdp_log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void rdp_log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
