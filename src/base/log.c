/* Output to people; see log.h. One write() per message, so that lines of several ranks do not mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    int rank, size;
    char host[256];
} self = {0, 1, "localhost"};

void rdp_log_identity(int rank, int size, const char *host)
{
    self.rank = rank;
    self.size = size;
    snprintf(self.host, sizeof self.host, "%s", host);
}

void rdp_say(const char *format, ...)
{
    va_list arguments;
    if (self.rank != 0)
        return;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

static void complain(const char *severity, const char *format, va_list arguments)
{
    char line[4608];
    int used = snprintf(line, sizeof line, "resnet-dp: %s: ", severity);
    if (self.size > 1)
        used += snprintf(line + used, sizeof line - (size_t)used, "[rank %d on %s] ", self.rank, self.host);
    vsnprintf(line + used, sizeof line - (size_t)used - 1, format, arguments);
    strcat(line, "\n");
    fflush(stdout);
    fputs(line, stderr);
    fflush(stderr);
}

void rdp_log_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain("warning", format, arguments);
    va_end(arguments);
}

void rdp_log_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain("error", format, arguments);
    va_end(arguments);
}
