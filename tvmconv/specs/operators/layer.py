"""layer: a convolution, a pooling, any kind that has a spec of its own, with its weights as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvmconv.base.errors import SpecError
from tvmconv.specs.kinds import Spec, parse_spec
from tvmconv.specs.operators.base import Array, Operator, Type


@dataclass(frozen=True)
class Layer(Operator):
    """``layer:1x8x8x3,3x3x3x4:float32:x,w:conv2d:1x8x8x3:o4:k3x3:NHWC:float32``: arguments, then the spec.

    arguments: what each input is, by the names that functions of the spec have, in call order: x, w, bias,
    residual, slopes, scales and zero points; offset and mask.
    """

    kind: ClassVar[str] = "layer"

    spec: Spec
    arguments: tuple[str, ...]

    def __post_init__(self) -> None:
        self._check_types()
        self._check_count(len(self.arguments))
        spec, given = self.spec, dict(zip(self.arguments, self.inputs, strict=True))
        if len(given) != len(self.arguments) or self.arguments[:1] != ("x",):
            raise SpecError(f"layer: arguments {', '.join(self.arguments)}, expected x first and each once")
        wanted = (*spec.inputs, *spec.weights)
        for name, shape in ((o.name, o.shape) for o in wanted if not o.is_quantisation):
            if name not in given or given[name].shape != shape:
                what = given.get(name, "missing")
                raise SpecError(f"layer: {name}: {what}, expected shape {shape} as {spec} has it")
        if given["x"].dtype != spec.dtype:
            raise SpecError(f"layer: x: {given['x']}, expected {spec.dtype}")

    @property
    def dtype(self) -> str:
        """The type of its result."""
        return self.spec.out_dtype

    @property
    def macs(self) -> int:
        return self.spec.macs

    def infer(self) -> tuple[Type, ...]:
        return (Type(self.spec.output_shape, self.dtype),)

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        y = self.spec.reference(dict(zip(self.arguments, arrays, strict=True)))
        whole = self.dtype.startswith(("int", "uint"))
        return (y.astype(self.dtype) if whole else y,)

    def options(self) -> tuple[str, ...]:
        return (",".join(self.arguments), *str(self.spec).split(":"))

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Layer:
        arguments, *spec = options
        return cls(inputs, parse_spec(":".join(spec)), tuple(arguments.split(",")))
