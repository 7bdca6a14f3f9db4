"""MobileNetV1's first layers, compiled into one library and run on a photograph with edge-detecting filters.

Run it through scripts/quickstart.sh, which sets up what it needs. It leaves quickstart.so, quickstart.h and
quickstart.png in the output folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import tvmconv
from tvmconv.base.clock import each_timed

LAYERS = {
    "conv1": tvmconv.ConvSpec(
        (1, 224, 224, 3), 32, 3, stride=2, padding="SAME", layout="NHWC", bias=True, activation="relu6"
    ),
    "dw1": tvmconv.depthwise(
        (1, 112, 112, 32), 3, padding="SAME", layout="NHWC", bias=True, activation="relu6"
    ),
    "pw1": tvmconv.pointwise((1, 112, 112, 32), 64, layout="NHWC", bias=True, activation="relu6"),
    "dw2": tvmconv.depthwise(
        (1, 112, 112, 64), 3, stride=2, padding="SAME", layout="NHWC", bias=True, activation="relu6"
    ),
    "pw2": tvmconv.pointwise((1, 56, 56, 64), 128, layout="NHWC", bias=True, activation="relu6"),
}

ALLOWED_ERROR = 1e-5  # of the range of a layer's output

SMOOTH = np.outer([1, 2, 1], [1, 2, 1]) / 16
SOBEL_X = np.outer([1, 2, 1], [-1, 0, 1]) / 4
SOBEL_Y = SOBEL_X.T
LAPLACE = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]) / 2
DIAGONAL = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]) / 4
VIEWS = np.array([[0.299, 0.587, 0.114], [1, 0, 0], [0, 1, 0], [0, 0, 1]])  # grey, red, green, blue


def main() -> int:
    """Do it all; returns 1 if a kernel disagrees with ONNX Runtime."""
    args = arguments(__doc__)
    start = time.perf_counter()
    library = tvmconv.compile(LAYERS, target=args.target)
    path = library.export(args.out / "quickstart.so")
    module = tvmconv.load(path)
    print(f"compiled {len(LAYERS)} kernels for {module.manifest['target']['name']} "
          f"in {time.perf_counter() - start:.1f} s\n")  # fmt: skip

    photo = photograph(slice(448), slice(32, 480))[None]
    arrays = {"photo": photo}
    x, good = photo, True
    print(f"{'kernel':6}  {'µs':>8}  {'GFLOP/s':>7}  {'error':>7}  descriptor")
    for name, spec in LAYERS.items():
        w, bias = weights(name)
        f = module[name].bind(w, bias)  # copies and prepacks the weights, once
        y = f(x)
        error = np.abs(y - onnxruntime_result(spec, x, w, bias)).max() / np.ptp(y)
        good &= bool(error <= ALLOWED_ERROR)
        seconds = float(np.median(each_timed(lambda f=f, x=x, y=y: f(x, out=y))))
        print(f"{name:6}  {seconds * 1e6:8.1f}  {spec.flops / seconds / 1e9:7.1f}  {error:7.1e}  {spec}")
        arrays[name] = x = y

    picture = args.out / "quickstart.png"
    write_picture(picture, arrays)
    print(
        f"\nerror: largest difference from ONNX Runtime over the output's range; allowed {ALLOWED_ERROR:.0e}"
    )
    print(f"library  {path}  ({path.stat().st_size / 1000:.0f} kB)")
    print(f"header   {path.with_suffix('.h')}")
    print(
        f"picture  {picture}  (photograph | edges by direction, from dw1 | edge strength by colour, from pw1)"
    )
    if not good:
        print("quickstart: error: a kernel disagrees with ONNX Runtime", file=sys.stderr)
    return 0 if good else 1


def arguments(description: str) -> argparse.Namespace:
    """What the command line says; the output folder exists afterwards."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build-quickstart"), help="output folder")
    parser.add_argument("--target", default="native", help="what to compile for; it has to run here")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def photograph(rows: slice, columns: slice) -> np.ndarray:
    """Part of a photograph out of the scikit-image package, halved in size: float32 (H, W, 3) from 0 to 1."""
    from PIL import Image

    package = Path(find_spec("skimage").submodule_search_locations[0])
    with Image.open(package / "data" / "astronaut.png") as file:
        pixels = np.asarray(file.convert("RGB"), np.float32)[rows, columns] / 255
    height, width, _ = pixels.shape
    return pixels.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3), dtype=np.float32)


def weights(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A layer's weights (HWIO) and bias.

    Channels of conv1: grey, red, green, blue, smoothed, eight times over. dw1 looks for one kind of edge in
    each four of them, in both signs, since relu6 keeps only the positive half. pw1 adds the halves up.
    """
    spec = LAYERS[name]
    rng = np.random.default_rng(len(name) + spec.out_channels)
    w = np.zeros(spec.weight_shape)
    bias = np.zeros(spec.out_channels)
    if name == "conv1":
        w[:] = 5 * SMOOTH[:, :, None, None] * VIEWS.T[:, np.arange(32) % 4]
    elif name == "dw1":
        edges = np.stack([SOBEL_X, -SOBEL_X, SOBEL_Y, -SOBEL_Y, LAPLACE, -LAPLACE, DIAGONAL, -DIAGONAL])
        w[:, :, 0, :] = 2 * np.repeat(edges, 4, axis=0).transpose(1, 2, 0)
    elif name == "pw1":
        w[:] = rng.standard_normal(w.shape) / 8
        for kind in range(4):  # |edge| of each kind and view
            for view in range(4):
                w[..., kind * 4 + view] = 0
                w[..., [kind * 8 + view, kind * 8 + 4 + view], kind * 4 + view] = 1
        for view in range(4):  # strength of horizontal and vertical edges together
            w[..., 16 + view] = 0
            w[..., view:16:4, 16 + view] = 0.7
    elif name == "dw2":
        w[:, :, 0, ::2] = SMOOTH[:, :, None]
        w[:, :, 0, 1::2] = LAPLACE[:, :, None]
    else:
        w[:] = rng.standard_normal(w.shape) / 8
        bias[:] = rng.standard_normal(bias.shape) / 8
    return w.astype(np.float32), bias.astype(np.float32)


def onnxruntime_result(spec: tvmconv.ConvSpec, x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of the layer; arrays in our NHWC and HWIO, relu6 as Clip."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    attributes = {"strides": spec.stride, "group": spec.groups}
    pads = [lo for lo, _ in spec.padding] + [hi for _, hi in spec.padding]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["z"], pads=pads, **attributes),
            helper.make_node("Clip", ["z", "zero", "six"], ["y"]),
        ],
        "layer", [value("x")], [value("y")],
        [numpy_helper.from_array(array, name) for name, array in
         {"w": np.ascontiguousarray(w.transpose(3, 2, 0, 1)), "b": bias,
          "zero": np.float32(0), "six": np.float32(6)}.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
    return y.transpose(0, 2, 3, 1)


def write_picture(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Three panels side by side: see the line that `main` prints."""
    from PIL import Image

    edges, strength = arrays["dw1"][0], arrays["pw1"][0]
    directions = np.stack([edges[..., k * 8] + edges[..., k * 8 + 4] for k in range(3)], axis=-1)
    panels = [arrays["photo"][0]]
    for panel in (directions, strength[..., 17:20]):
        panels.append(np.clip(panel / np.quantile(panel, 0.995), 0, 1).repeat(2, 0).repeat(2, 1))
    pixels = np.concatenate(panels, axis=1)
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except tvmconv.Error as error:
        sys.exit(f"quickstart: error: {error}")
