/* Part of every library for CPUs, after pool.c: a trace of the steps that run, in the file that TVMCONV_TRACE names, as
 * Chrome and Perfetto read it: a JSON array, added to by each call under a lock, and whole at any time. So several
 * libraries, threads and processes may share it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

enum { TCV_EVENT = 256 };                             /* bytes of an event's numbers and punctuation, at most */
static int tcv_traced;
static char tcv_trace_file[4096];

static void tcv_untraced(const char *why) {
  fprintf(stderr, "tvmconv: TVMCONV_TRACE: %s: %s; nothing is traced\n", tcv_trace_file, why);
  tcv_store(&tcv_traced, 0);
}

/* As the library is loaded, since the program may change its folder. */
__attribute__((constructor)) static void tcv_trace_init(void) {
  const char *file = getenv("TVMCONV_TRACE");
  size_t used = 0;
  if (!file || !*file) return;
  if (*file != '/' && getcwd(tcv_trace_file, sizeof tcv_trace_file - 1)) used = strlen(tcv_trace_file);
  if (used) tcv_trace_file[used++] = '/';
  tcv_trace_file[used] = 0;
  if (strlen(file) >= sizeof tcv_trace_file - used) {
    tcv_untraced("expected a shorter path");
    return;
  }
  memcpy(tcv_trace_file + used, file, strlen(file) + 1);
  tcv_traced = 1;
}

/* Adds `text`, which has room for two characters before it and three after its `size`. */
static void tcv_trace_add(char *text, size_t size) {
  char tail[3];
  int file = open(tcv_trace_file, O_RDWR | O_CREAT | O_CLOEXEC, 0666), wrong = file < 0 || flock(file, LOCK_EX);
  off_t end = wrong ? -1 : lseek(file, 0, SEEK_END);
  if (!wrong && end > 0 && (end < 3 || pread(file, tail, 3, end - 3) != 3 || memcmp(tail, "\n]\n", 3))) {
    tcv_untraced("holds something else, expected a trace or no such file");
  } else {
    text -= 2, size += 5;
    memcpy(text, end > 0 ? ",\n" : "[\n", 2), memcpy(text + size - 3, "\n]\n", 3);
    if (end < 0 || pwrite(file, text, size, end > 0 ? end - 3 : 0) != (ssize_t)size) tcv_untraced(strerror(errno));
  }
  if (file >= 0) close(file);
}

static size_t tcv_trace_event(char *text, const char *what, int64_t start, int64_t end) {
  return (size_t)sprintf(text, "{%s,\"cat\":\"tvmconv\",\"ph\":\"X\",\"ts\":%lld.%03d,\"dur\":%lld.%03d,\"pid\":%d,"
                         "\"tid\":%ld}", what, (long long)(start / 1000), (int)(start % 1000),
                         (long long)((end - start) / 1000), (int)((end - start) % 1000), (int)getpid(),
                         (long)syscall(SYS_gettid));
}

/* A call of the function `name` that ran `n` steps. time[0]: when it began, time[i + 1]: when step i was done. */
static void tcv_trace_call(const char *name, const tcv_step *steps, int n, const int64_t *time) {
  char call[TCV_EVENT + 64], *text, *at;
  size_t size = 2 + 3 + sizeof call + TCV_EVENT;
  for (int i = 0; i < n; ++i) size += strlen(steps[i].what) + TCV_EVENT;
  if (!(text = malloc(size))) return;
  at = text + 2;
  snprintf(call, sizeof call, "\"name\":\"%.200s\"", name);
  at += tcv_trace_event(at, call, time[0], time[n]);
  for (int i = 0; i < n; ++i) {
    *at++ = ',', *at++ = '\n';
    at += tcv_trace_event(at, steps[i].what, time[i], time[i + 1]);
  }
  tcv_trace_add(text + 2, (size_t)(at - text - 2));
  free(text);
}
