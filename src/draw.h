/* A model as a directed graph in Graphviz's language (graphviz.org/doc/info/lang.html): a node per layer, clusters for
 * stages and blocks, an edge per array that a layer reads. The same model gives the same bytes. */
#ifndef RDP_DRAW_H
#define RDP_DRAW_H

#include <stdio.h>

#include "model.h"

/* Errors show in ferror(out). */
void rdp_draw_model(const struct rdp_model *model, FILE *out);

#endif
