"""Draws filters.png, what four filters see in a photograph, and windows.png, where the windows of a
convolution lie: the pictures of tvmconv/docs/learn.md. Needs matplotlib and scikit-image."""

import matplotlib
import numpy as np
from skimage import data

import tvmconv

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

# Four filters of 3x3, as the weights of one convolution: (out, in, rows, columns).
FILTERS = {
    "as it is": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "mean": [[1 / 9] * 3] * 3,
    "vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "horizontal edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
}
photo = data.camera()[32:288:2, 160:416:2] / np.float32(255)
x = photo[None, None]  # (images, channels, rows, columns)
w = np.array(list(FILTERS.values()), np.float32)[:, None]
y = tvmconv.conv(x, w, padding="SAME")  # (1, 4, 128, 128)

figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axis, name, channel in zip(axes, FILTERS, y[0], strict=True):
    axis.imshow(channel, cmap="gray")
    axis.set(title=name, xticks=[], yticks=[])
figure.savefig("filters.png", dpi=80)

# A row of 9 elements (blue) with a border of zeros, and the windows of the first three results (orange).
ARRANGEMENTS = {
    "k3": tvmconv.ConvSpec((1, 1, 9, 9), 1, 3),
    "k3, s2": tvmconv.ConvSpec((1, 1, 9, 9), 1, 3, stride=2),
    "k3, p1": tvmconv.ConvSpec((1, 1, 9, 9), 1, 3, padding=1),
    "k3, d2": tvmconv.ConvSpec((1, 1, 9, 9), 1, 3, dilation=2),
}
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axis, (name, spec) in zip(axes, ARRANGEMENTS.items(), strict=True):
    low, high = spec.padding[0]
    for i in range(-low, 9 + high):
        inside = 0 <= i < 9
        axis.add_patch(Rectangle((i, 0.5), 0.9, 0.6, fc="#9ecae1" if inside else "white", ec="gray"))
    for result in range(3):
        for tap in range(3):
            first = result * spec.stride[0] - low + tap * spec.dilation[0]
            axis.add_patch(Rectangle((first, -0.6 * (result + 1)), 0.9, 0.45, fc="#fdae6b", ec="gray"))
    axis.set(title=f"{name}: {spec.output_shape[2]} results", xlim=(-1.3, 10.3), ylim=(-2.1, 1.3))
    axis.axis("off")
figure.savefig("windows.png", dpi=80)
