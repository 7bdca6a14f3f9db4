"""The convolutions of networks, as specs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tvmconv.spec import ConvSpec

EPILOGUES = {"none": (False, False), "bias": (True, False), "full": (True, True)}


def network(name: str, layout: str = "NHWC", epilogue: str = "none") -> list[ConvSpec]:
    """The distinct convolutions of a network at 224×224, batch 1, SAME padding, in order of appearance.

    `epilogue`: "none", "bias", or "full" for bias and the network's own relu6 (batch norm folded)."""
    bias, activate = EPILOGUES[epilogue]
    specs = {}
    for image, channels, out, kernel, stride, linear in NETWORKS[name]():
        shape = (1, image, image, channels) if layout == "NHWC" else (1, channels, image, image)
        groups, out = (channels, channels) if out is None else (1, out)
        activation = "relu6" if activate and not linear else None
        spec = ConvSpec(
            shape, out, kernel, stride=stride, padding="SAME", groups=groups, layout=layout, bias=bias,
            activation=activation,
        )  # fmt: skip
        specs[spec] = None
    return list(specs)


Rows = Iterable[tuple[int, int, "int | None", int, int, bool]]
"""(image, channels, output channels or None for depthwise, kernel, stride, without activation)."""


def mobilenet_v1() -> Rows:
    """Howard et al., arXiv:1704.04861, table 1."""
    yield 224, 3, 32, 3, 2, False
    image, channels = 112, 32
    for out, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
                        (1024, 1)]:  # fmt: skip
        yield image, channels, None, 3, stride, False
        image //= stride
        yield image, channels, out, 1, 1, False
        channels = out


def mobilenet_v2() -> Rows:
    """Sandler et al., arXiv:1801.04381, table 2."""
    yield 224, 3, 32, 3, 2, False
    image, channels = 112, 32
    for expansion, out, repeats, first_stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:  # fmt: skip
        for stride in [first_stride] + [1] * (repeats - 1):
            inner = channels * expansion
            if expansion > 1:
                yield image, channels, inner, 1, 1, False
            yield image, inner, None, 3, stride, False
            image //= stride
            yield image, inner, out, 1, 1, True
            channels = out
    yield image, channels, 1280, 1, 1, False


NETWORKS: dict[str, Callable[[], Rows]] = {"mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2}
