/* How the pool cuts a loop into tasks and those into shares, for loops and threads of many sizes: the largest share
 * is an equal part or hardly more, every thread has one, and tasks are no more than there have to be. */
#include "call.h"
#include "cpu.h"
#include "errors.c"
#include "support.c"
#include "threads.c"
#include "pool.c"

static void check(int iterations, int threads) {
  int tasks = tcv_tasks(iterations, threads), each = (iterations + tasks - 1) / tasks;  /* as TVM's code has it */
  int shares = threads < tasks ? threads : tasks, largest = 0, equal = (iterations + threads - 1) / threads;
  for (int i = 0; i < shares; ++i) {
    int first = tasks * i / shares * each, last = tasks * (i + 1) / shares * each;
    if (last > iterations) last = iterations;
    if (last - first > largest) largest = last - first;
  }
  int few = iterations <= TCV_FEWEST_TASKS * threads ? tasks == iterations : tasks <= TCV_MOST_TASKS * threads;
  if (few && largest >= equal && 12 * largest <= 13 * equal) return;
  printf("%d iterations on %d threads: %d tasks of %d, a share of %d\n", iterations, threads, tasks, each, largest);
  exit(1);
}

int main(void) {
  for (int threads = 1; threads <= 32; ++threads)
    for (int iterations = 1; iterations <= 5000; ++iterations) check(iterations, threads);
  check(1 << 30, TCV_MAX_THREADS);
  if (tcv_tasks(0, 3) != 3 * TCV_FEWEST_TASKS) puts("a loop of unknown length"), exit(1);
  return 0;
}
