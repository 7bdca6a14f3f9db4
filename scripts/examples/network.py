"""The same from Python, where numpy is all that it needs."""

import numpy as np

import tvmconv

main = tvmconv.load("model.so")["main"]
x = np.fromfile("x.bin", np.float32).reshape(1, 3, 64, 64)
y = main(x)
print(f"class {y.argmax()}, score {y.max():.4f}")
