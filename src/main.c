/*
 * resnet-dp: the command line. Finds the command, brings up what it stands on, runs it, and is the only place that ends
 * the program: with the status's exit code, through MPI_Abort when one rank fails and the others do not know.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "commands.h"

struct command {
    const char *name;
    int bit; /* RDP_CMD_* */
    int (*parallel)(const struct rdp_options *options, struct rdp_session *session);
    int (*lone)(const struct rdp_options *options);
    const char *usage, *help;
};

static const struct command commands[] = {
    {"train", RDP_CMD_TRAIN, rdp_cmd_train, NULL, "[train] [--recipe FILE] [--OPTION VALUE]...",
     "train; the default command"},
    {"sweep", RDP_CMD_SWEEP, rdp_cmd_sweep, NULL, "sweep [SWEEP.ini] [--vary NAME=V,V;...] [--OPTION VALUE]...",
     "train for a list of values, compare"},
    {"prepare", RDP_CMD_PREPARE, NULL, rdp_cmd_prepare,
     "prepare --from DIR|TAR.GZ --out FILE.h5 | --synthetic --out FILE.h5", "make the data set file"},
    {"summary", RDP_CMD_SUMMARY, NULL, rdp_cmd_summary, "summary [--recipe FILE] [--OPTION VALUE]...",
     "per-layer table of a model"},
    {"eval", RDP_CMD_EVAL, rdp_cmd_eval, NULL, "eval --checkpoint FILE --data FILE.h5",
     "evaluate a checkpoint on the test set"},
    {"predict", RDP_CMD_PREDICT, NULL, rdp_cmd_predict, "predict --checkpoint FILE IMAGE...",
     "classify PNG and JPEG files"},
    {"inspect", RDP_CMD_INSPECT, NULL, rdp_cmd_inspect, "inspect FILE", "verify and describe a data set or checkpoint"},
    {"info", RDP_CMD_INFO, rdp_cmd_info, NULL, "info", "build, libraries, devices, ranks, binding"},
    {"bench", RDP_CMD_BENCH, rdp_cmd_bench, NULL, "bench [--recipe FILE] [--OPTION VALUE]...",
     "measure training speed"},
    {"plot", RDP_CMD_PLOT, NULL, rdp_cmd_plot, "plot RUN_DIR [--out DIR]",
     "draw loss, accuracy, learning rate, confusion matrix"},
    {"draw", RDP_CMD_DRAW, NULL, rdp_cmd_draw, "draw [--recipe FILE] [--OPTION VALUE]... --out FILE.dot",
     "draw a model's layers for Graphviz"},
    {"augment", RDP_CMD_AUGMENT, NULL, rdp_cmd_augment, "augment [--recipe FILE] --data FILE.h5 --out SHEET.png",
     "contact sheet of augmented training images"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(void)
{
    printf("resnet-dp %s: data-parallel ResNet training on CIFAR-10\n\n", RDP_VERSION);
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  resnet-dp %-66s %s\n", commands[i].usage, commands[i].help);
    printf("\nAcross ranks: mpirun -np 4 resnet-dp --recipe jobs/recipes/basic-2111.ini --data cifar10.h5\n"
           "Options of a command: resnet-dp COMMAND --help\n\n"
           "Exit codes:");
#define RDP_PRINT_CODE(name, code, exit_code, text) printf("  %d %s\n%11s", exit_code, text, "");
    RDP_STATUS_MAP(RDP_PRINT_CODE)
#undef RDP_PRINT_CODE
    printf("\n");
}

/* The command of the first word; train if that is an option or nothing. NULL, with a message waiting, for another word.
 */
static const struct command *find_command(int argc, char **argv)
{
    const char *names[COMMANDS];
    if (argc < 2 || argv[1][0] == '-')
        return &commands[0];
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return &commands[i];
        names[i] = commands[i].name;
    }
    const char *nearest = rdp_nearest_name(argv[1], names, COMMANDS);
    rdp_fail(RDP_EUSAGE, "%s: no such command%s%s%s (`resnet-dp --help` lists them)", argv[1],
             nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    return NULL;
}

/* Handles --help and --version before anything is started. */
static bool answered(const struct command *command, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        bool help = strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
        if (help && (command == NULL || argv[1][0] == '-')) {
            print_usage();
            if (command != NULL)
                rdp_options_help(stdout, command->bit);
            return true;
        }
        if (help) {
            printf("resnet-dp %s: %s\n\n", command->usage, command->help);
            rdp_options_help(stdout, command->bit);
            return true;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("resnet-dp %s (%s)\n", RDP_VERSION, RDP_GIT_ID);
            return true;
        }
    }
    return false;
}

/* Four ranks that each write the same file, or print the same table, are a mistake. */
static void check_alone(const struct command *command)
{
    int rank, size;
    rdp_launch_hint(&rank, &size);
    if (size > 1)
        rdp_fail(RDP_EUSAGE, "%s: runs alone, but was started as %d ranks; start it without mpirun or srun",
                 command->name, size);
}

static int run(const struct command *command, struct rdp_session *session, int argc, char **argv)
{
    struct rdp_options options;
    bool named = argc > 1 && argv[1][0] != '-';
    int status = rdp_options_parse(&options, command->bit, command->name, argc - named, argv + named);
    if (command->lone != NULL)
        return status == RDP_OK ? command->lone(&options) : status;
    RDP_TRY(rdp_comm_agree(session->comm, status, "reading the options"));
    return command->parallel(&options, session);
}

int main(int argc, char **argv)
{
    struct rdp_session session;
    const struct command *command = find_command(argc, argv);
    if (answered(command, argc, argv))
        return 0;
    if (command != NULL && command->lone != NULL)
        check_alone(command);
    if (rdp_fail_message()[0] != '\0') {
        int rank, size;
        rdp_launch_hint(&rank, &size);
        if (rank == 0) /* all ranks see the same mistake: one of them speaks */
            rdp_fail_print();
        return rdp_status_exit_code(RDP_EUSAGE);
    }
    int status = rdp_session_begin(&session, command->parallel != NULL, &argc, &argv);
    if (status == RDP_OK)
        status = run(command, &session, argc, argv);
    /* A message still waiting is this rank's alone: the others may be waiting for it in a collective. */
    bool alone = rdp_fail_message()[0] != '\0';
    rdp_fail_print();
    if (status != RDP_OK && alone)
        rdp_launch_abort(&session.launch, rdp_status_exit_code(status));
    rdp_session_end(&session);
    return rdp_status_exit_code(status);
}
