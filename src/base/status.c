/* Status codes and the message that waits with them; see status.h. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static char waiting_message[4096];

const char *rdp_status_name(int status)
{
    switch (status) {
#define RDP_STATUS_NAME(name, code, exit_code, text) \
    case code:                                       \
        return #name;
        RDP_STATUS_MAP(RDP_STATUS_NAME)
#undef RDP_STATUS_NAME
    }
    return "unknown status";
}

const char *rdp_status_text(int status)
{
    switch (status) {
#define RDP_STATUS_TEXT(name, code, exit_code, text) \
    case code:                                       \
        return text;
        RDP_STATUS_MAP(RDP_STATUS_TEXT)
#undef RDP_STATUS_TEXT
    }
    return "unknown status";
}

int rdp_status_exit_code(int status)
{
    switch (status) {
#define RDP_STATUS_EXIT(name, code, exit_code, text) \
    case code:                                       \
        return exit_code;
        RDP_STATUS_MAP(RDP_STATUS_EXIT)
#undef RDP_STATUS_EXIT
    }
    return 70;
}

int rdp_fail(int status, const char *format, ...)
{
    if (waiting_message[0] == '\0') {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(waiting_message, sizeof waiting_message, format, arguments);
        va_end(arguments);
    }
    return status;
}

const char *rdp_fail_message(void)
{
    return waiting_message;
}

void rdp_fail_clear(void)
{
    waiting_message[0] = '\0';
}

void rdp_fail_print(void)
{
    if (waiting_message[0] != '\0')
        rdp_log_error("%s", waiting_message);
    rdp_fail_clear();
}
