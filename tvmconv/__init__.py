"""tvmconv: a compiler for convolutions, and the runtime of the libraries that it makes.

Names are loaded when they are first used, so that ``import tvmconv`` costs nothing, and running a library
needs numpy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvmconv.base.lazy import lazily

if TYPE_CHECKING:
    from tvmconv.base.errors import ArtifactError, Error, SpecError, TargetError, TuningError
    from tvmconv.compiler.artifact.library import Library
    from tvmconv.compiler.compile import compile
    from tvmconv.frontends.api import conv, conv_transpose
    from tvmconv.frontends.deform import deform_conv
    from tvmconv.frontends.pooling import (
        avg_pool,
        channel_shuffle,
        global_avg_pool,
        global_max_pool,
        max_pool,
    )
    from tvmconv.frontends.tf import depthwise_conv2d, separable_conv2d
    from tvmconv.network.compiling import compile_network
    from tvmconv.runtime import Bound, Function, GpuArray, Module, load, set_num_threads, to_gpu
    from tvmconv.runtime.arrays import aligned
    from tvmconv.specs.block import BlockSpec
    from tvmconv.specs.conv import ConvSpec
    from tvmconv.specs.deformable import DeformSpec
    from tvmconv.specs.kinds import parse_spec
    from tvmconv.specs.pooling import PoolSpec
    from tvmconv.specs.shorthand import depthwise, pointwise
    from tvmconv.tuning.api import tune

__all__ = [
    "ArtifactError", "BlockSpec", "Bound", "ConvSpec", "DeformSpec", "Error", "Function", "GpuArray",
    "Library", "Module", "PoolSpec", "SpecError", "TargetError", "TuningError", "__version__", "aligned",
    "avg_pool", "channel_shuffle", "compile", "compile_network", "conv", "conv_transpose", "deform_conv",
    "depthwise", "depthwise_conv2d", "global_avg_pool", "global_max_pool", "load", "max_pool", "parse_spec",
    "pointwise", "separable_conv2d", "set_num_threads", "to_gpu", "tune",
]  # fmt: skip

_NAMES = {
    "tvmconv.frontends.api": ("conv", "conv_transpose"),
    "tvmconv.compiler.artifact.library": ("Library",),
    "tvmconv.compiler.compile": ("compile",),
    "tvmconv.frontends.deform": ("deform_conv",),
    "tvmconv.specs.block": ("BlockSpec",),
    "tvmconv.specs.deformable": ("DeformSpec",),
    "tvmconv.base.errors": ("ArtifactError", "Error", "SpecError", "TargetError", "TuningError"),
    "tvmconv.specs.pooling": ("PoolSpec",),
    "tvmconv.frontends.pooling": (
        "avg_pool",
        "channel_shuffle",
        "global_avg_pool",
        "global_max_pool",
        "max_pool",
    ),
    "tvmconv.runtime.arrays": ("aligned",),
    "tvmconv.runtime": ("Bound", "Function", "GpuArray", "Module", "load", "set_num_threads", "to_gpu"),
    "tvmconv.specs.conv": ("ConvSpec",),
    "tvmconv.specs.shorthand": ("depthwise", "pointwise"),
    "tvmconv.specs.kinds": ("parse_spec",),
    "tvmconv.tuning.api": ("tune",),
    "tvmconv.network.compiling": ("compile_network",),
    "tvmconv.frontends.tf": ("depthwise_conv2d", "separable_conv2d"),
}
_MODULES = {
    "arithmetic": "tvmconv.specs.arithmetic",
    "network": "tvmconv.network",
    "onnx": "tvmconv.onnx",
    "show": "tvmconv.show",
    "torch": "tvmconv.torch",
    "verify": "tvmconv.frontends.verify",
}
_get, __dir__ = lazily(__name__, _NAMES, __all__, _MODULES)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _get(name)
    from tvmconv.base.version import own_version

    globals()[name] = own_version()
    return globals()[name]
