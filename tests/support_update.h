/*
 * What the `update` operation needs besides the arrays: rows, the row of each block, workspace, all in guarded device
 * memory. Used by whoever trains in a test without the program's own step.
 */
#ifndef RDP_TESTS_SUPPORT_UPDATE_H
#define RDP_TESTS_SUPPORT_UPDATE_H

#include "kernels/kernels.h"
#include "support_devices.h"

struct rdp_test_rows {
    struct rdp_guarded rows, row_of, workspace;
    struct rdp_update update; /* count, rows, row_of, row_count, workspace; the arrays are the caller's to set */
};

/* Of `row_count` ascending rows of arrays of `count` f32. */
struct rdp_test_rows rdp_test_rows_of(struct rdp_device *device, const struct rdp_update_row *rows, int row_count,
                                      size_t count);
void rdp_test_rows_free(struct rdp_test_rows *rows);

#endif
