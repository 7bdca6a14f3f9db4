"""What specs of everything that slides a window over an image have in common."""

from __future__ import annotations

from tvmconv.specs.operand import Signature


class WindowSpec:
    """Shapes of a spec with ``input_shape``, ``kernel``, ``layout`` and ``out_channels``.

    A kind of spec says in ``_out_dim`` how long its result is in a spatial dim.
    """

    __slots__ = ()

    input_shape: tuple[int, ...]
    kernel: tuple[int, ...]
    layout: str
    out_channels: int

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({str(self)!r})"

    def signature(self) -> Signature:
        """Every array of a call in call order: the first input, w and bias, the other inputs, the other
        weights, the output. The one place that knows that order, which is the manifest's and the C
        functions'."""
        raise NotImplementedError

    def _out_dim(self, dim: int) -> int:
        raise NotImplementedError

    @property
    def rank(self) -> int:
        """Number of spatial dims, 1 to 3."""
        return len(self.kernel)

    @property
    def channels_last(self) -> bool:
        """Whether the layout is NHWC."""
        return self.layout == "NHWC"

    @property
    def batch(self) -> int:
        """Images a call; may be 0."""
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
