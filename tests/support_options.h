/* What the tests of options*.c share. Failures end the test (cmocka). */
#ifndef RDP_TEST_SUPPORT_OPTIONS_H
#define RDP_TEST_SUPPORT_OPTIONS_H

#include "options.h"

/* Parses a command line given as one text with blanks between the words; options->arguments points into static memory. */
int rdp_test_parse(struct rdp_options *options, int command, const char *line);
/* The line is refused as bad usage, and the message holds both parts. */
void rdp_test_refused(int command, const char *line, const char *part1, const char *part2);

#endif
