/*
 * Status codes: what every function of this program returns, and how an error travels.
 *
 * A function returns RDP_OK (0) or a negative code from the one list below. The code travels up by RDP_TRY; the words
 * wait in a per-process buffer (rdp_fail) until somebody who knows the other ranks prints them: rdp_comm_agree() when a
 * set-up phase ends, main() otherwise. So four ranks that all reject the same option print one message, not four.
 */
#ifndef RDP_BASE_STATUS_H
#define RDP_BASE_STATUS_H

#include <stdbool.h>

/* X(name, code, exit code of the process, short text) */
#define RDP_STATUS_MAP(X) \
    X(OK, 0, 0, "done") \
    X(EUSAGE, -1, 2, "bad usage or bad input file") \
    X(EIO, -2, 3, "a file could not be written") \
    X(ENUMERIC, -3, 4, "the loss is no longer a finite number") \
    X(ECOMM, -4, 5, "another rank failed or did not answer in time") \
    X(EDEVICE, -5, 6, "the compute device or one of its libraries failed") \
    X(ENOMEM, -6, 7, "out of memory") \
    X(EINTERNAL, -7, 70, "a defect of resnet-dp itself") \
    X(ESTOPPED, -8, 75, "stopped by a signal after saving; run again to continue")

enum rdp_status {
#define RDP_STATUS_ENUM(name, code, exit_code, text) RDP_##name = (code),
    RDP_STATUS_MAP(RDP_STATUS_ENUM)
#undef RDP_STATUS_ENUM
};

const char *rdp_status_name(int status); /* "EUSAGE"; static storage */
const char *rdp_status_text(int status); /* the short text of the list; static storage */
int rdp_status_exit_code(int status);    /* the process's exit code for it */

/*
 * Remembers the message of a failure and returns `status`. Say what, where, why and what to do, in that order, without
 * a final newline. A message that is already waiting is kept (the first cause wins); rdp_fail_clear() forgets it.
 */
int rdp_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *rdp_fail_message(void); /* the waiting message, "" if none; static storage */
void rdp_fail_clear(void);
/* Prints the waiting message once to stderr as "resnet-dp: error: ..." (with rank and host if there are several ranks)
 * and forgets it. Nothing is printed if none waits. */
void rdp_fail_print(void);

/* Returns the code of a failed call to the caller. Evaluates `call` once. */
#define RDP_TRY(call) \
    do { \
        int rdp_try_status_ = (call); \
        if (rdp_try_status_ != RDP_OK) \
            return rdp_try_status_; \
    } while (0)

/* The same for functions that hold resources: stores the code in `status` and jumps to `label`. */
#define RDP_TRY_GOTO(status, call, label) \
    do { \
        (status) = (call); \
        if ((status) != RDP_OK) \
            goto label; \
    } while (0)

#endif
