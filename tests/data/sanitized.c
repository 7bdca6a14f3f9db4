/* Calls a library from many threads, for ThreadSanitizer to watch: sanitized CASES SCENARIO.
 * CASES holds x, w, bias and the expected y of `large` and `dw`, one after another. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "library.h"

typedef struct { void *sync_handle; int32_t num_task; } environment;
typedef int (*task)(int index, environment *env, void *data);
typedef int (*launcher)(task run, void *data, int tasks);
extern void *__TVMBackendParallelLaunch;              /* what kernels call to run in parallel */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n);

enum { LARGE = 56 * 56 * 64, DW = 9 * 11 * 24, CALLERS = 4 };
typedef int (*entry)(const void *x, const void *packed, void *y);
typedef struct { float *x, *w, *bias, *y; void *packed; int count; entry run; } layer;
static layer layers[2];
static int stop;

#define check(condition) \
  do if (!(condition)) fprintf(stderr, "line %d: not %s\n", __LINE__, #condition), _exit(3); while (0)

static float *take(FILE *file, int count) {
  void *memory = NULL;
  check(posix_memalign(&memory, 64, sizeof(float) * (size_t)count) == 0);
  check(fread(memory, sizeof(float), (size_t)count, file) == (size_t)count);
  return memory;
}

static layer read_layer(FILE *file, int count, int channels, entry run, size_t packed_bytes) {
  float *x = take(file, count), *w = take(file, 9 * channels), *bias = take(file, channels);
  layer l = {x, w, bias, take(file, count), NULL, count, run};
  check(posix_memalign(&l.packed, 64, packed_bytes) == 0);
  return l;
}

static void call(int which) {
  layer *l = &layers[which & 1];
  float *y = malloc(sizeof(float) * (size_t)l->count);
  check(y && l->run(l->x, l->packed, y) == 0);
  for (int i = 0; i < l->count; ++i) check(fabsf(y[i] - l->y[i]) <= 1e-4f + 1e-4f * fabsf(l->y[i]));
  free(y);
}

/* ---- what runs in parallel: plain memory, which only the pool's own order of events keeps from a race ---- */

typedef struct { int count[50], failing; } work;

static int add_one(int index, environment *env, void *data) {
  work *w = data;
  check(env->num_task == 50);
  w->count[index] += 1;
  if (index != w->failing) return 0;
  const char *text = "as it should";
  TVMFFIErrorSetRaisedFromCStrParts("Failed", &text, 1);
  return -1;
}

static int add_nested(int index, environment *env, void *data) {
  work inner = {{0}, -1};
  check(((launcher)__TVMBackendParallelLaunch)(add_one, &inner, 50) == 0);
  for (int i = 0; i < 50; ++i) check(inner.count[i] == 1);
  return add_one(index, env, data);
}

static void *call_often(void *number) {
  for (int i = 0; i < 20; ++i) call((int)(intptr_t)number + i);
  return NULL;
}

static void *call_until_stopped(void *number) {
  for (int i = (int)(intptr_t)number; !__atomic_load_n(&stop, __ATOMIC_RELAXED); ++i) call(i);
  return NULL;
}

static void *launch_often(void *number) {
  for (int i = 0; i < 200; ++i) {
    work w = {{0}, i % 5 ? -1 : i % 50};
    int failed = ((launcher)__TVMBackendParallelLaunch)(i % 2 ? add_one : add_nested, &w, 50);
    check(failed == (w.failing < 0 ? 0 : -1));
    if (failed) check(strcmp(tvmconv_last_error(), "Failed: as it should") == 0);
    for (int k = 0; k < 50; ++k) check(w.count[k] == 1);
  }
  return number;
}

static void *race(void *data) {                       /* no thread waits for another: this must be reported */
  return *(int *)data += 1, NULL;
}

static void start(pthread_t *threads, void *(*run)(void *)) {
  for (intptr_t i = 0; i < CALLERS; ++i) check(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
}

static void join(pthread_t *threads) {
  for (int i = 0; i < CALLERS; ++i) pthread_join(threads[i], NULL);
}

/* Children that call on so many threads: 1 where other threads ran at the fork, whose numbers libtsan does
 * not take again in the child. */
static void fork_often(int threads) {
  for (int i = 0; i < 3; ++i) {
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
      alarm(20);
      tvmconv_set_num_threads(threads);
      for (int k = 0; k < 4; ++k) call(k);
      _exit(0);
    }
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0);
  }
}

int main(int argc, char **argv) {
  check(argc == 3);
  const char *scenario = argv[2];
  pthread_t threads[CALLERS];
  FILE *file = fopen(argv[1], "rb");
  check(file);
  layers[0] = read_layer(file, LARGE, 64, large, large_packed_bytes());
  layers[1] = read_layer(file, DW, 24, dw, dw_packed_bytes());
  fclose(file);
  check(large_prepack(layers[0].w, layers[0].bias, layers[0].packed) == 0);
  check(dw_prepack(layers[1].w, layers[1].bias, layers[1].packed) == 0);
  if (!strcmp(scenario, "callers")) {
    start(threads, call_often), join(threads);        /* the first call starts the pool, from all at once */
  } else if (!strcmp(scenario, "resize")) {
    static const int sizes[] = {1, 5, 2, 9, 3, 0, 8, 4};
    start(threads, call_until_stopped);
    for (int i = 0; i < 80; ++i) tvmconv_set_num_threads(sizes[i % 8]), usleep(i % 3 * 500);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    join(threads);
  } else if (!strcmp(scenario, "launches")) {
    start(threads, launch_often), join(threads);
  } else if (!strcmp(scenario, "fork")) {
    call(0), fork_often(1);                           /* the pool there, idle */
    tvmconv_set_num_threads(1), fork_often(4);        /* its threads gone */
    tvmconv_set_num_threads(4), start(threads, call_until_stopped);
    fork_often(1);                                    /* busy */
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    join(threads);
  } else if (!strcmp(scenario, "race")) {
    int shared = 0;
    pthread_create(&threads[0], NULL, race, &shared), race(&shared), pthread_join(threads[0], NULL);
  }
  puts("right");
  return 0;
}
