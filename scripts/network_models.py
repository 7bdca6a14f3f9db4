"""Whole networks as ONNX files, with random weights: what tests and benchmarks of networks run.

    python scripts/network_models.py --out models [--size 224] [--exporter torchscript] [NAME ...]

Needs torchvision and timm beside torch, of versions that fit it: `pip install --no-deps torchvision timm`.
Statistics of batch norms are randomised: fresh ones would hide mistakes.
"""

from __future__ import annotations

import argparse
import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


def _torchvision():
    """torchvision's models; its compiled operators, which no model here uses, need not fit this torch."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # torchvision's own are there
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    _torchvision.library = library  # what it defines goes with it
    return torchvision.models


def _plain(name: str, **options) -> Callable[[], nn.Module]:
    return lambda: getattr(_torchvision(), name)(weights=None, **options)


def _timm(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        _torchvision()
        import timm

        return timm.create_model(name)

    return make


class UNet(nn.Module):
    """Four levels, transposed convolutions up, a concatenation a level."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.down = nn.ModuleList(_twice(i, o) for i, o in zip((3, *widths), widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in pairs)
        self.mix = nn.ModuleList(_twice(2 * o, o) for _, o in pairs)
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            levels.append(x)
        for number, (up, mix) in enumerate(zip(self.up, self.mix, strict=True), 2):
            x = mix(torch.cat([up(x), levels[-number]], 1))
        return torch.softmax(self.head(x), 1)


def _twice(i: int, o: int) -> nn.Sequential:
    both = ((i, o), (o, o))
    parts = [(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()) for a, b in both]
    return nn.Sequential(*(layer for part in parts for layer in part))


class C2f(nn.Module):
    """A bottleneck whose intermediate results are all concatenated."""

    def __init__(self, i: int, o: int, depth: int, shortcut: bool) -> None:
        super().__init__()
        self.first, self.last, self.shortcut = _silu(i, o), _silu((2 + depth) * o // 2, o), shortcut
        self.blocks = nn.ModuleList(
            nn.Sequential(_silu(o // 2, o // 2, 3), _silu(o // 2, o // 2, 3)) for _ in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            y = block(parts[-1])
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.last(torch.cat(parts, 1))


def _silu(i: int, o: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(o), nn.SiLU()
    )


class Detector(nn.Module):
    """YOLOv8's shape: C2f blocks, pooling pyramid, upsampling and downsampling necks, distributions of boxes
    decoded against a grid."""

    def __init__(self, classes: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(_silu(3, 16, 3, 2), _silu(16, 32, 3, 2), C2f(32, 32, 1, True))
        self.p3 = nn.Sequential(_silu(32, 64, 3, 2), C2f(64, 64, 2, True))
        self.p4 = nn.Sequential(_silu(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.p5 = nn.Sequential(_silu(128, 256, 3, 2), C2f(256, 256, 1, True))
        self.before, self.after = _silu(256, 128), _silu(512, 256)
        self.n4, self.n3 = C2f(384, 128, 1, False), C2f(192, 64, 1, False)
        self.d3, self.d4 = _silu(64, 64, 3, 2), _silu(128, 128, 3, 2)
        self.m4, self.m5 = C2f(192, 128, 1, False), C2f(384, 256, 1, False)
        self.boxes = nn.ModuleList(
            nn.Sequential(_silu(c, 64, 3), nn.Conv2d(64, 64, 1)) for c in (64, 128, 256)
        )
        self.kinds = nn.ModuleList(
            nn.Sequential(_silu(c, 64, 3), nn.Conv2d(64, classes, 1)) for c in (64, 128, 256)
        )
        self.register_buffer("bins", torch.arange(16.0).reshape(1, 16, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        y = self.before(self.p5(p4))
        pools = [y]
        for _ in range(3):
            pools.append(nn.functional.max_pool2d(pools[-1], 5, 1, 2))
        p5 = self.after(torch.cat(pools, 1))
        n4 = self.n4(torch.cat([nn.functional.interpolate(p5, scale_factor=2.0), p4], 1))
        n3 = self.n3(torch.cat([nn.functional.interpolate(n4, scale_factor=2.0), p3], 1))
        m4 = self.m4(torch.cat([self.d3(n3), n4], 1))
        m5 = self.m5(torch.cat([self.d4(m4), p5], 1))
        levels = [n3, m4, m5]
        boxes = torch.cat([head(z).flatten(2) for head, z in zip(self.boxes, levels, strict=True)], 2)
        kinds = torch.cat([head(z).flatten(2) for head, z in zip(self.kinds, levels, strict=True)], 2)
        grid, stride = self._grid(levels)
        sides = (boxes.reshape(-1, 4, 16, boxes.shape[2]).transpose(1, 2).softmax(1) * self.bins).sum(1)
        low, high = grid - sides[:, :2], grid + sides[:, 2:]
        return torch.cat([(low + high) / 2 * stride, (high - low) * stride, kinds.sigmoid()], 1)

    def _grid(self, levels: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        points, strides = [], []
        for level, z in enumerate(levels):
            rows, columns = (torch.arange(int(size), dtype=torch.float32) + 0.5 for size in z.shape[2:])
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            points.append(torch.stack([x, y]).reshape(2, -1))
            strides.append(torch.full((1, int(y.numel())), 8.0 * 2**level, dtype=torch.float32))
        return torch.cat(points, 1)[None], torch.cat(strides, 1)[None]


class SSDLite(nn.Module):
    """MobileNetV2's features at two depths, depthwise heads, anchors in one list."""

    def __init__(self, classes: int = 6, anchors: int = 3) -> None:
        super().__init__()
        features = _torchvision().mobilenet_v2(weights=None).features
        self.low, self.high = features[:14], features[14:]
        self.extra = nn.Sequential(nn.Conv2d(1280, 128, 1), nn.ReLU6(), *_separable(128, 256, 2))
        channels = (96, 1280, 256)
        self.boxes = nn.ModuleList(nn.Sequential(*_separable(c, 4 * anchors)) for c in channels)
        self.kinds = nn.ModuleList(nn.Sequential(*_separable(c, classes * anchors)) for c in channels)
        self.classes = classes

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        low = self.low(x)
        high = self.high(low)
        levels = (low, high, self.extra(high))
        boxes, kinds = [], []
        for z, box, kind in zip(levels, self.boxes, self.kinds, strict=True):
            boxes.append(box(z).permute(0, 2, 3, 1).reshape(z.shape[0], -1, 4))
            kinds.append(kind(z).permute(0, 2, 3, 1).reshape(z.shape[0], -1, self.classes))
        return torch.cat(boxes, 1), torch.cat(kinds, 1).softmax(-1)


def _separable(i: int, o: int, stride: int = 1) -> list[nn.Module]:
    depthwise = nn.Conv2d(i, i, 3, stride, 1, groups=i, bias=False)
    return [depthwise, nn.BatchNorm2d(i), nn.ReLU6(), nn.Conv2d(i, o, 1)]


class Segmenter(nn.Module):
    """The one result to keep of torchvision's segmentation models."""

    def __init__(self) -> None:
        super().__init__()
        models = _torchvision().segmentation
        self.model = models.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)["out"]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v1": _timm("mobilenetv1_100"), "mobilenet_v2": _plain("mobilenet_v2"),
    "mobilenet_v2_050": _plain("mobilenet_v2", width_mult=0.5),
    "mobilenet_v3_large": _plain("mobilenet_v3_large"), "shufflenet_v2": _plain("shufflenet_v2_x1_0"),
    "efficientnet_b0": _plain("efficientnet_b0"), "mnasnet": _plain("mnasnet1_0"),
    "mnasnet_se": _timm("semnasnet_100"), "ghostnet": _timm("ghostnet_100"),
    "regnet_y_400mf": _plain("regnet_y_400mf"),
    "googlenet": _plain("googlenet", init_weights=False, aux_logits=False),
    "inception_v3": _plain("inception_v3", init_weights=False, aux_logits=False),
    "densenet121": _plain("densenet121"), "resnet18": _plain("resnet18"), "resnet50": _plain("resnet50"),
    "resnext50": _plain("resnext50_32x4d"), "convnext_tiny": _plain("convnext_tiny"),
    "squeezenet": _plain("squeezenet1_1"), "unet": UNet, "deeplabv3_mobilenet_v3": Segmenter,
    "ssdlite": SSDLite, "yolo": Detector,
}  # fmt: skip
"""Each network by its name."""

LEAST = {"inception_v3": 96, "ssdlite": 96}
"""Image sizes below which a network has nothing left."""


def module(name: str, seed: int = 0) -> nn.Module:
    """A network in inference mode, with random weights and batch-norm statistics."""
    torch.manual_seed(seed)
    made = MODELS[name]().eval()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return made


def export(name: str, path: Path, size: int, exporter: str = "torchscript", batch: int = 1) -> Path:
    """Write a network as an ONNX model for images of (batch, 3, size, size)."""
    size = max(size, LEAST.get(name, 0))
    options = {"opset_version": 17}
    if exporter == "dynamo":
        options = {"external_data": False, "verbose": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module(name), (torch.randn(batch, 3, size, size),), str(path), input_names=["x"],
            dynamo=exporter == "dynamo", **options,
        )  # fmt: skip
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--exporter", choices=("torchscript", "dynamo"), default="torchscript")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or MODELS:
        path = export(name, options.out / f"{name}.onnx", options.size, options.exporter)
        print(f"{path}: {path.stat().st_size >> 10} KiB", flush=True)


if __name__ == "__main__":
    main()
