/* See support_options.h. */
#include "support_options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"

int rdp_test_parse(struct rdp_options *options, int command, const char *line)
{
    static char copy[2048], *words[32]; /* options->arguments points into them */
    int count = 1;
    words[0] = (char *)"command";
    snprintf(copy, sizeof copy, "%s", line);
    for (char *rest = copy, *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word != '\0')
            words[count++] = word;
    words[count] = NULL;
    rdp_fail_clear();
    return rdp_options_parse(options, command, command == RDP_CMD_TRAIN ? "train" : "other", count, words);
}

void rdp_test_refused(int command, const char *line, const char *part1, const char *part2)
{
    struct rdp_options options;
    int status = rdp_test_parse(&options, command, line);
    const char *message = rdp_fail_message();
    if (status != RDP_EUSAGE || strstr(message, part1) == NULL || strstr(message, part2) == NULL)
        fail_msg("\"%s\" gave %s \"%s\" without \"%s\" and \"%s\"", line, rdp_status_name(status), message, part1,
                 part2);
    rdp_fail_clear();
}
