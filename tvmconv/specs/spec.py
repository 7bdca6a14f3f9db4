"""What specs of all kinds have in common: each takes an image, and knows its kind."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tvmconv.base.dtypes import BYTES
from tvmconv.specs.activations import Activation, row_of
from tvmconv.specs.grammar import Grammar
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.work import Work


class Spec(Work):
    """A layer with ``input_shape``, ``layout`` and ``dtype``.

    Users of a spec ask it, not which kind it is: the defaults here are for kinds that lack a feature. Its
    reference is the module of the same name in tvmconv.specs.reference; that of its kernels, in
    tvmconv.compiler.codegen, is called ``family``.
    """

    __slots__ = ()

    builder: ClassVar[str] = "codegen"
    family: ClassVar[str]
    grammar: ClassVar[Grammar]
    layouts: ClassVar[tuple[str, ...]] = ("NCHW", "NHWC")

    input_shape: tuple[int, ...]
    layout: str
    dtype: str

    def _store(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # specs are frozen

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({str(self)!r})"

    # What a kind says about itself.

    def signature(self) -> Signature:
        """Every array of a call in call order: the first input, w and bias, the other inputs, the other
        weights, the output. The one place that defines that order, also used by the manifest and the C
        functions."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """The class in which it is compared: dense, depthwise, maxpool, ..."""
        raise NotImplementedError

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        raise NotImplementedError

    @property
    def terms(self) -> int:
        """Numbers summed, or compared, for one result."""
        raise NotImplementedError

    @property
    def flops(self) -> int:
        """Floating-point operations of one call, epilogue not counted."""
        return 2 * self.macs

    @property
    def effort(self) -> int:
        return self.flops

    @property
    def macs(self) -> int:
        """Multiply-adds of one call, those on padding included."""
        return 0

    @property
    def kernel(self) -> tuple[int, ...]:
        """The size of a window by spatial dim: one element, for kinds that have no windows."""
        return (1,) * self.rank

    @property
    def stride(self) -> tuple[int, ...]:
        """The step from window to window."""
        return (1,) * self.rank

    @property
    def dilation(self) -> tuple[int, ...]:
        """The step from element to element of a window."""
        return (1,) * self.rank

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Elements before and after x that windows reach."""
        return ((0, 0),) * self.rank

    @property
    def padding_mode(self) -> str:
        """What is there."""
        return "zeros"

    @property
    def out_dtype(self) -> str:
        """The type of the result."""
        return self.dtype

    @property
    def transposed(self) -> bool:
        """Whether elements of x spread over the result."""
        return False

    @property
    def activation(self) -> str | None:
        """The activation's text."""
        return None

    @property
    def algorithm(self) -> str | None:
        """The requested algorithm."""
        return None

    @property
    def is_operator(self) -> bool:
        """Whether other engines have an operator for it, with bias, residual and activation around it."""
        return True

    @property
    def fill(self) -> float | None:
        """What x may be padded with beforehand without changing the result; None if nothing."""
        return 0.0

    @property
    def is_exact(self) -> bool:
        """Whether small enough integers give exactly the values of the reference."""
        return self.act is None or self.act.exact

    def allowed_error(self) -> float:
        """The error allowed to a correct result on ordinary data, in spacings of the coarsest type at the
        size of the sums: it grows as the square root of their length."""
        return 8 + 2 * math.sqrt(self.terms)

    def size_of_sums(self, rms: Mapping[str, float]) -> float:
        """The rms value of a sum before the activation, if its terms were independent, from those of the
        arrays."""
        return math.sqrt(self.terms) * rms["x"] * rms["w"]

    def part_of(self, name: str) -> Spec:
        """The layer, of those that it is made of, that takes the array of that name: itself."""
        return self

    def twins(self) -> tuple[Spec, ...]:
        """Specs whose schedules are mostly good for this one, the nearest first: the same sums with less of
        an epilogue.

        Every strategy lays out the sums and lets the epilogue follow. The reverse does not hold: a spec
        without an epilogue has no twin with one.
        """
        return ()

    def takes_pitch(self) -> frozenset[str]:
        """The images of a layer of floats, channels-last."""
        names = {operand.name for operand in self.signature()} & {"x", "residual", "y"}
        return frozenset(names if self.channels_last and not self.is_integer else ())

    def size_text(self, dim: int) -> str:
        """The arithmetic of the result's size in a spatial dim: "floor((224 + 3 + 3 - 7) / 2) + 1 = 112"."""
        raise NotImplementedError

    def _out_dim(self, dim: int) -> int:
        """The result's size in a spatial dim."""
        raise NotImplementedError

    # What follows from that.

    def reference(self, arrays: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """The result for ``arrays``, by the names of its signature, in float64. Raises SpecError."""
        room, _, module = type(self).__module__.rpartition(".")
        referee = importlib.import_module(f"{room}.reference.{module}")  # which imports this one
        return referee.reference(self, **arrays)

    @property
    def act(self) -> Activation | None:
        """The activation's row."""
        return row_of(self.activation)

    @property
    def is_integer(self) -> bool:
        """Whether x is of 8-bit integers."""
        return self.dtype in BYTES

    @property
    def weights(self) -> Signature:
        """What ``bind`` takes, in order."""
        return tuple(operand for operand in self.signature() if operand.role == "weight")

    @property
    def inputs(self) -> Signature:
        """What a call takes, in order."""
        return tuple(operand for operand in self.signature() if operand.role == "input")

    @property
    def output(self) -> Operand:
        """The result."""
        return self.signature()[-1]

    @property
    def parameters(self) -> int:
        """Learnt numbers: weights, bias, PReLU's slopes."""
        return sum(o.elements for o in self.weights if not o.is_quantisation)

    @property
    def bytes(self) -> int:
        """Bytes that one call must move at least: each array that it reads or writes, once."""
        return sum(operand.nbytes for operand in self.signature())

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: flops per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def rank(self) -> int:
        """Number of spatial dims, 1 to 3."""
        return len(self.input_shape) - 2

    @property
    def channels_last(self) -> bool:
        """Whether the layout is NHWC."""
        return self.layout == "NHWC"

    @property
    def batch(self) -> int:
        """Images per call; may be 0."""
        return self.input_shape[0]

    @property
    def in_channels(self) -> int:
        """Channels of x."""
        return self.input_shape[-1 if self.channels_last else 1]

    @property
    def in_spatial(self) -> tuple[int, ...]:
        """Spatial dims of x."""
        return self.input_shape[1:-1] if self.channels_last else self.input_shape[2:]

    @property
    def out_spatial(self) -> tuple[int, ...]:
        """Spatial dims of the result."""
        return tuple(self._out_dim(dim) for dim in range(self.rank))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result, in the layout of x."""
        if self.channels_last:
            return (self.batch, *self.out_spatial, self.out_channels)
        return (self.batch, self.out_channels, *self.out_spatial)
