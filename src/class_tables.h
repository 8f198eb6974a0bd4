/* What a run's final test leaves besides its accuracy: classes.csv (class, correct, of, accuracy) and confusion.csv (a
 * row per true class, a column per predicted one, counts). plot_confusion.c draws the latter. */
#ifndef RDP_CLASS_TABLES_H
#define RDP_CLASS_TABLES_H

#include "evaluator.h"
#include "io/dataset.h"

/* Writes both into run_dir, each whole or absent. `info` names the evaluation's classes. RDP_EIO. */
int rdp_class_tables_write(const char *run_dir, const struct rdp_evaluation *evaluation,
                           const struct rdp_dataset_info *info);

#endif
