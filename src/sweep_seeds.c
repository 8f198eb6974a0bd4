/* What several seeds of a sweep's cases give together; see sweep.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "io/csv.h"
#include "sweep.h"

/* Test accuracies of the cases that differ in nothing but the seed, as far as they are done. NAN: there are too few. */
struct spread {
    const char *name; /* "" if nothing but the seed is varied */
    int count;
    double mean, deviation; /* of the sample: divided by count - 1 */
    double least, greatest;
};

static bool is_first_of_its_seeds(const struct rdp_sweep *sweep, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(sweep->cases[i].of_seeds, sweep->cases[at].of_seeds) == 0)
            return false;
    return true;
}

static struct spread spread_of(const struct rdp_sweep *sweep, const char *name)
{
    struct spread spread = {name, 0, NAN, NAN, NAN, NAN};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < sweep->count; i++) {
        const double accuracy = sweep->cases[i].result.test_accuracy;
        if (strcmp(sweep->cases[i].of_seeds, name) != 0 || isnan(accuracy))
            continue;
        spread.count++;
        sum += accuracy;
        spread.least = fmin(spread.least, accuracy); /* of a NAN and a number, the number */
        spread.greatest = fmax(spread.greatest, accuracy);
    }
    if (spread.count > 0)
        spread.mean = sum / spread.count;
    for (size_t i = 0; i < sweep->count; i++) {
        const double difference = sweep->cases[i].result.test_accuracy - spread.mean;
        if (strcmp(sweep->cases[i].of_seeds, name) == 0 && !isnan(difference))
            squares += difference * difference;
    }
    if (spread.count > 1)
        spread.deviation = sqrt(squares / (spread.count - 1));
    return spread;
}

static void put_percent(FILE *out, int width, double share)
{
    if (isnan(share))
        fprintf(out, "  %*s", width, "-");
    else
        fprintf(out, "  %*.2f", width, 100 * share);
}

void rdp_sweep_put_seeds(FILE *out, const struct rdp_sweep *sweep)
{
    static const char *const headings[] = {"mean acc %", "deviation", "least", "greatest"};
    int width = (int)strlen("over seeds");
    if (!sweep->seeded)
        return;
    for (size_t i = 0; i < sweep->count; i++)
        if ((int)strlen(sweep->cases[i].of_seeds) > width)
            width = (int)strlen(sweep->cases[i].of_seeds);
    fprintf(out, "\n%-*s  seeds", width, "over seeds");
    for (size_t h = 0; h < sizeof headings / sizeof *headings; h++)
        fprintf(out, "  %s", headings[h]);
    fputc('\n', out);
    for (size_t i = 0; i < sweep->count; i++) {
        if (!is_first_of_its_seeds(sweep, i))
            continue;
        const struct spread spread = spread_of(sweep, sweep->cases[i].of_seeds);
        const double values[] = {spread.mean, spread.deviation, spread.least, spread.greatest};
        fprintf(out, "%-*s  %5d", width, spread.name[0] == '\0' ? "all" : spread.name, spread.count);
        for (size_t h = 0; h < sizeof headings / sizeof *headings; h++)
            put_percent(out, (int)strlen(headings[h]), values[h]);
        fputc('\n', out);
    }
}

void rdp_sweep_put_seeds_csv(FILE *out, const struct rdp_sweep *sweep)
{
    char cell[64];
    fputs("case,seeds,test_accuracy_mean,test_accuracy_deviation,test_accuracy_least,test_accuracy_greatest\n", out);
    for (size_t i = 0; i < sweep->count; i++) {
        if (!is_first_of_its_seeds(sweep, i))
            continue;
        const struct spread spread = spread_of(sweep, sweep->cases[i].of_seeds);
        const double values[] = {spread.mean, spread.deviation, spread.least, spread.greatest};
        rdp_csv_put_field(out, spread.name);
        fprintf(out, ",%d", spread.count);
        for (size_t v = 0; v < sizeof values / sizeof *values; v++)
            fprintf(out, ",%s", isnan(values[v]) ? "" : rdp_format_real(cell, sizeof cell, values[v]));
        fputc('\n', out);
    }
}
