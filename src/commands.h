/*
 * The commands. Each takes the checked options and returns a status; main() prints what waits and ends the program. A
 * command that works across ranks gets the session (launch and communicator are up); the others run alone.
 */
#ifndef RDP_COMMANDS_H
#define RDP_COMMANDS_H

#include "options.h"
#include "session.h"

int rdp_cmd_train(const struct rdp_options *options, struct rdp_session *session);
int rdp_cmd_sweep(const struct rdp_options *options, struct rdp_session *session);
int rdp_cmd_eval(const struct rdp_options *options, struct rdp_session *session);
int rdp_cmd_bench(const struct rdp_options *options, struct rdp_session *session);
int rdp_cmd_info(const struct rdp_options *options, struct rdp_session *session);
int rdp_cmd_prepare(const struct rdp_options *options);
int rdp_cmd_summary(const struct rdp_options *options);
int rdp_cmd_predict(const struct rdp_options *options);
int rdp_cmd_inspect(const struct rdp_options *options);
int rdp_cmd_augment(const struct rdp_options *options);
int rdp_cmd_plot(const struct rdp_options *options);
int rdp_cmd_draw(const struct rdp_options *options);

#endif
