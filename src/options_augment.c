/* What the options of augmentation must fulfil together, and what --normalisation means. */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "options.h"

/* Three numbers from `least` to 1 with commas between them. Where they end; NULL if they are not that. */
static const char *read_three(const char *text, double least, float values[3])
{
    for (int c = 0; c < 3; c++) {
        char *end;
        if (c > 0 && *text++ != ',')
            return NULL;
        const double value = strtod(text, &end);
        if (end == text || !(value >= least && value <= 1))
            return NULL;
        values[c] = (float)value;
        text = end;
    }
    return text;
}

int rdp_options_normalisation(const struct rdp_options *options, float mean[3], float std[3])
{
    static const float legacy_mean[] = {0.4914f, 0.4822f, 0.4465f}, legacy_std[] = {0.2023f, 0.1994f, 0.2010f};
    const char *text = options->normalisation, *rest;
    float given_mean[3], given_std[3];
    const double least_std = 1e-3; /* a quarter of a grey level; far below, pixels leave f32's range */
    if (strcmp(text, "dataset") == 0)
        return RDP_OK;
    if (strcmp(text, "legacy") == 0) {
        memcpy(mean, legacy_mean, sizeof legacy_mean);
        memcpy(std, legacy_std, sizeof legacy_std);
        return RDP_OK;
    }
    rest = read_three(text, 0, given_mean);
    if (rest != NULL)
        rest = *rest == '/' ? read_three(rest + 1, least_std, given_std) : NULL;
    if (rest == NULL || *rest != '\0')
        return rdp_fail(RDP_EUSAGE,
                        "--normalisation %s: must be dataset, legacy, or three means from 0 to 1 and three deviations "
                        "from 0.001 to 1, red, green and blue, as in 0.4914,0.4822,0.4465/0.2470,0.2435,0.2616",
                        text);
    memcpy(mean, given_mean, sizeof given_mean);
    memcpy(std, given_std, sizeof given_std);
    return RDP_OK;
}

static int check_range(const char *name, double least, double most)
{
    if (least > most)
        return rdp_fail(RDP_EUSAGE, "--%s-min %g is above --%s-max %g: give both, in order", name, least, name, most);
    return RDP_OK;
}

int rdp_options_check_augmentation(const struct rdp_options *options)
{
    float mean[3], std[3];
    RDP_TRY(check_range("rotation", options->rotation_min, options->rotation_max));
    RDP_TRY(check_range("erase-scale", options->erase_scale_min, options->erase_scale_max));
    RDP_TRY(check_range("erase-ratio", options->erase_ratio_min, options->erase_ratio_max));
    return rdp_options_normalisation(options, mean, std);
}
