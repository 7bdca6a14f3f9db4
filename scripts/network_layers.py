"""The layers of networks, in order, as plain records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.kinds import Spec, parse_spec
from tvmconv.specs.pooling import PoolSpec

EPILOGUES = {"none": (False, False), "bias": (True, False), "full": (True, True)}


@dataclass(frozen=True)
class Conv:
    """One convolution of a network on a square image, or on (height, width).

    groups: 0 for one a channel. out: 0 for as many as come in. pad: "SAME", or pixels on each side."""

    image: int
    channels: int
    out: int
    kernel: int
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    pad: int | str = "SAME"
    activation: str | None = None
    residual: bool = False  # the block's input is added to the result, before the activation
    transposed: bool = False
    dtype: str = "float32"

    def spec(self, layout: str = "NHWC", epilogue: str = "none", padding: str = "network") -> ConvSpec:
        """`epilogue`: "none", "bias", or "full" for all that the network has (batch norm folded into a
        bias, residual, activation). `padding`: "symmetric" for SAME as PyTorch's networks have it."""
        bias, full = EPILOGUES[epilogue]
        spatial = (self.image, self.image)
        shape = (1, *spatial, self.channels) if layout == "NHWC" else (1, self.channels, *spatial)
        symmetric = padding == "symmetric" and self.pad == "SAME" and not self.transposed
        return ConvSpec(
            shape, self.out or self.channels, self.kernel, stride=self.stride,
            padding=self.dilation * (self.kernel - 1) // 2 if symmetric else self.pad,
            groups=self.groups or self.channels, dilation=self.dilation, layout=layout, bias=bias,
            dtype=self.dtype.partition("/")[0], out_dtype=self.dtype.partition("/")[2] or None,
            residual=full and self.residual, activation=self.activation if full else None,
            transposed=self.transposed,
        )  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """One pooling of a square image; kernel 0 for all of it."""

    operation: str
    image: int
    channels: int
    kernel: int
    stride: int = 1
    pad: int = 0
    options: tuple[str, ...] = ()

    def spec(self, layout: str = "NHWC", epilogue: str = "none", padding: str = "network") -> PoolSpec:
        """The same pooling as a spec; the epilogue and the padding's style mean nothing to it."""
        spatial = (self.image, self.image)
        shape = (1, *spatial, self.channels) if layout == "NHWC" else (1, self.channels, *spatial)
        return PoolSpec(
            shape, self.kernel or self.image, operation=self.operation, stride=self.stride, padding=self.pad,
            layout=layout, **dict.fromkeys(self.options, True),
        )  # fmt: skip


@dataclass(frozen=True)
class Fixed:
    """A layer that exists in one layout only, by its descriptor."""

    descriptor: str

    def spec(self, layout: str = "NHWC", epilogue: str = "none", padding: str = "network") -> Spec:
        """The layer, whatever is asked for."""
        return parse_spec(self.descriptor)


Layers = Iterable[Conv | Pool | Fixed]


def mobilenet_v1() -> Layers:
    """Howard et al., arXiv:1704.04861, table 1."""
    yield Conv(224, 3, 32, 3, 2, activation="relu6")
    image, channels = 112, 32
    for out, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
                        (1024, 1)]:  # fmt: skip
        yield Conv(image, channels, 0, 3, stride, groups=0, activation="relu6")
        image //= stride
        yield Conv(image, channels, out, 1, activation="relu6")
        channels = out


def mobilenet_v2() -> Layers:
    """Sandler et al., arXiv:1801.04381, table 2; the projections are linear."""
    yield Conv(224, 3, 32, 3, 2, activation="relu6")
    image, channels = 112, 32
    for expansion, out, repeats, first_stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:  # fmt: skip
        for stride in [first_stride] + [1] * (repeats - 1):
            inner = channels * expansion
            if expansion > 1:
                yield Conv(image, channels, inner, 1, activation="relu6")
            yield Conv(image, inner, 0, 3, stride, groups=0, activation="relu6")
            image //= stride
            yield Conv(image, inner, out, 1, residual=stride == 1 and channels == out)
            channels = out
    yield Conv(image, channels, 1280, 1, activation="relu6")


def mobilenet_v3_large() -> Layers:
    """Howard et al., arXiv:1905.02244, table 1; squeeze-and-excite and the classifier's layers included."""
    yield Conv(224, 3, 16, 3, 2, activation="hard_swish")
    image, channels = 112, 16
    for kernel, inner, out, squeezed, activation, stride in [
        (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1),
        (5, 72, 40, 24, "relu", 2), *[(5, 120, 40, 32, "relu", 1)] * 2,
        (3, 240, 80, 0, "hard_swish", 2), (3, 200, 80, 0, "hard_swish", 1),
        *[(3, 184, 80, 0, "hard_swish", 1)] * 2,
        (3, 480, 112, 120, "hard_swish", 1), (3, 672, 112, 168, "hard_swish", 1),
        (5, 672, 160, 168, "hard_swish", 2), *[(5, 960, 160, 240, "hard_swish", 1)] * 2,
    ]:  # fmt: skip
        if inner != channels:
            yield Conv(image, channels, inner, 1, activation=activation)
        yield Conv(image, inner, 0, kernel, stride, groups=0, activation=activation)
        image //= stride
        if squeezed:
            yield Conv(1, inner, squeezed, 1, activation="relu")
            yield Conv(1, squeezed, inner, 1, activation="hard_sigmoid")
        yield Conv(image, inner, out, 1, residual=stride == 1 and channels == out)
        channels = out
    yield Conv(image, channels, 960, 1, activation="hard_swish")
    yield Conv(1, 960, 1280, 1, activation="hard_swish")
    yield Conv(1, 1280, 1000, 1)


def shufflenet_v2() -> Layers:
    """Ma et al., arXiv:1807.11164, table 5, 1x; a unit's branches work on half of its channels."""
    yield Conv(224, 3, 24, 3, 2, pad=1, activation="relu")
    image, channels = 56, 24
    for out, repeats in [(116, 4), (232, 8), (464, 4)]:
        half = out // 2
        yield Conv(image, channels, 0, 3, 2, groups=0, pad=1)
        yield Conv(image // 2, channels, half, 1, activation="relu")
        yield Conv(image, channels, half, 1, activation="relu")
        yield Conv(image, half, 0, 3, 2, groups=0, pad=1)
        image //= 2
        yield Conv(image, half, half, 1, activation="relu")
        for _ in range(repeats - 1):
            yield Conv(image, half, half, 1, activation="relu")
            yield Conv(image, half, 0, 3, groups=0, pad=1)
            yield Conv(image, half, half, 1, activation="relu")
        channels = out
    yield Conv(image, channels, 1024, 1, activation="relu")


def resnet50(groups: int = 1, width: int = 64) -> Layers:
    """He et al., arXiv:1512.03385, table 1, with the stride in the 3x3 convolutions, as PyTorch has it."""
    yield Conv(224, 3, 64, 7, 2, pad=3, activation="relu")
    image, channels = 56, 64
    for stage, repeats in enumerate([3, 4, 6, 3]):
        inner, out = groups * width << stage, 256 << stage
        for stride in [2 if stage else 1] + [1] * (repeats - 1):
            yield Conv(image, channels, inner, 1, activation="relu")
            yield Conv(image, inner, inner, 3, stride, groups=groups, pad=1, activation="relu")
            if channels != out:
                yield Conv(image, channels, out, 1, stride, pad=0)
            image //= stride
            yield Conv(image, inner, out, 1, activation="relu", residual=True)
            channels = out


def resnext50_32x4d() -> Layers:
    """Xie et al., arXiv:1611.05431, table 1: 32 groups of 4 channels at first."""
    return resnet50(groups=32, width=4)


def aspp() -> Layers:
    """Chen et al., arXiv:1706.05587: DeepLabV3's spatial pyramid and head at output stride 16, 513x513."""
    yield Conv(33, 2048, 256, 1, activation="relu")
    for rate in (6, 12, 18):
        yield Conv(33, 2048, 256, 3, dilation=rate, activation="relu")
    yield Conv(1, 2048, 256, 1, activation="relu")
    yield Conv(33, 1280, 256, 1, activation="relu")
    yield Conv(33, 256, 256, 3, activation="relu")
    yield Conv(33, 256, 21, 1)


NETWORKS: dict[str, Callable[[], Layers]] = {
    "mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2, "mobilenet_v3_large": mobilenet_v3_large,
    "shufflenet_v2": shufflenet_v2, "resnext50_32x4d": resnext50_32x4d, "aspp": aspp, "resnet50": resnet50,
}  # fmt: skip
"""Batch 1, at 224x224 but for aspp. SAME padding where TensorFlow trained them, else PyTorch's."""
