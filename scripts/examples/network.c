/* A whole network, called from C99. */
#include <stdio.h>

#include "model.h"

static float x[MODEL_MAIN_X_ELEMS], y[MODEL_MAIN_Y_ELEMS];

int main(void) {
  const void *in[] = {x}; /* the model's inputs, in its order */
  void *out[] = {y};      /* its results */
  FILE *file = fopen("x.bin", "rb");
  if (!file || fread(x, sizeof x, 1, file) != 1) return fputs("x.bin: cannot be read\n", stderr), 1;
  fclose(file);

  if (model_main(in, out, NULL) != TVMCONV_OK) { /* NULL: the library keeps the workspace */
    fprintf(stderr, "%s\n", model_last_error());
    return 1;
  }

  int best = 0;
  for (int i = 1; i < MODEL_MAIN_Y_ELEMS; ++i)
    if (y[i] > y[best]) best = i;
  printf("class %d, score %.4f\n", best, y[best]);
  return 0;
}
