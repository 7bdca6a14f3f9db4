// The same from C++17, by two threads at once, each with a workspace and results of its own.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "model.h"

// 64-byte alignment is what the workspace needs, and what is fastest for arrays.
struct alignas(64) Line { char bytes[64]; };

int main() {
  std::vector<float> x(MODEL_MAIN_X_ELEMS);
  std::ifstream file("x.bin", std::ios::binary);
  if (!file.read(reinterpret_cast<char *>(x.data()), x.size() * sizeof(float))) {
    std::fputs("x.bin: cannot be read\n", stderr);
    return 1;
  }

  std::vector<float> y[2] = {std::vector<float>(MODEL_MAIN_Y_ELEMS), std::vector<float>(MODEL_MAIN_Y_ELEMS)};
  int code[2];
  auto call = [&](int i) {
    std::unique_ptr<Line[]> workspace(new Line[MODEL_MAIN_WORKSPACE_BYTES / sizeof(Line) + 1]);
    const void *in[] = {x.data()};
    void *out[] = {y[i].data()};
    code[i] = model_main(in, out, workspace.get());
    if (code[i] != TVMCONV_OK) std::fprintf(stderr, "%s\n", model_last_error());
  };
  std::thread other(call, 1);
  call(0);
  other.join();
  if (code[0] != TVMCONV_OK || code[1] != TVMCONV_OK || y[0] != y[1]) return 1;

  auto best = std::max_element(y[0].begin(), y[0].end());
  std::printf("class %d, score %.4f\n", static_cast<int>(best - y[0].begin()), *best);
}
