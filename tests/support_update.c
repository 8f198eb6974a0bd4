/* See support_update.h. */
#include "support_update.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory.h"
#include "support_network.h"

struct rdp_test_rows rdp_test_rows_of(struct rdp_device *device, const struct rdp_update_row *rows, int row_count,
                                      size_t count)
{
    const size_t blocks = count / RDP_ROW_BLOCK;
    struct rdp_test_rows made;
    uint16_t *row_of;
    RDP_MUST(rdp_calloc((void **)&row_of, blocks, sizeof *row_of, "rows of blocks"));
    for (size_t block = 0, row = 0; block < blocks; block++) {
        while (row + 1 < (size_t)row_count && rows[row + 1].offset <= block * RDP_ROW_BLOCK)
            row++;
        row_of[block] = (uint16_t)row;
    }
    made.rows = rdp_guarded_of(device, rows, (size_t)row_count * sizeof *rows);
    made.row_of = rdp_guarded_of(device, row_of, blocks * sizeof *row_of);
    made.workspace = rdp_guarded_make(device, rdp_update_workspace(count, row_count) * sizeof(double));
    made.update = (struct rdp_update){.count = count,
                                      .rows = made.rows.data,
                                      .row_of = made.row_of.data,
                                      .row_count = row_count,
                                      .workspace = made.workspace.data};
    free(row_of);
    return made;
}

static int by_offset(const void *a, const void *b)
{
    const struct rdp_update_row *first = a, *second = b;
    return first->offset < second->offset ? -1 : first->offset > second->offset;
}

struct rdp_test_rows rdp_test_rows_of_network(struct rdp_network *network, double weight_decay)
{
    const struct rdp_model *model = network->model;
    struct rdp_update_row *rows;
    int count = 0;
    RDP_MUST(rdp_calloc((void **)&rows, (size_t)model->parameter_count, sizeof *rows, "rows"));
    for (int i = 0; i < model->parameter_count; i++)
        if (model->parameters[i].kind == RDP_PARAMETER_TRAINED)
            rows[count++] =
                (struct rdp_update_row){.offset = network->rows[i].offset,
                                        .count = network->rows[i].stored_count,
                                        .weight_decay = model->parameters[i].decays ? (float)weight_decay : 0,
                                        .lr = 1,
                                        .adapts = model->parameters[i].dims_count > 1};
    qsort(rows, (size_t)count, sizeof *rows, by_offset);
    struct rdp_test_rows made = rdp_test_rows_of(network->device, rows, count, network->parameter_count);
    made.update.parameters = network->parameters;
    made.update.copies = network->copies;
    made.update.gradients = network->gradients;
    free(rows);
    return made;
}

void rdp_test_rows_free(struct rdp_test_rows *rows)
{
    rdp_guarded_free(&rows->rows);
    rdp_guarded_free(&rows->row_of);
    rdp_guarded_free(&rows->workspace);
}
