#include <stdio.h>
#include "model.h"

int main(void) {
    static float x[MODEL_MAIN_X_ELEMS], y[MODEL_MAIN_Y_ELEMS];
    const void *in[] = {x};
    void *out[] = {y};
    if (model_main(in, out, NULL) != TVMCONV_OK) {
        fprintf(stderr, "%s\n", model_last_error());
        return 1;
    }
    printf("y[0] = %g\n", y[0]);
    return 0;
}
