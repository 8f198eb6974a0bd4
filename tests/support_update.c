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

void rdp_test_rows_free(struct rdp_test_rows *rows)
{
    rdp_guarded_free(&rows->rows);
    rdp_guarded_free(&rows->row_of);
    rdp_guarded_free(&rows->workspace);
}
