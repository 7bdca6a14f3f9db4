"""replace_convolutions: a module whose convolutions are ours, the rest PyTorch's."""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.frontends.api import function, spec_of
from tvmconv.torch.functions import empty_result
from tvmconv.torch.tensors import checked, is_channels_last, to_first, to_last, torch

KINDS = (
    torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d,
    torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d,
)  # fmt: skip


def replace_convolutions(module: torch.nn.Module, target: str = "native") -> torch.nn.Module:
    """Replace a module's convolutions by compiled ones, in place, for inference; returns the module.

    Those of PyTorch's own six classes are replaced; subclasses, parametrised ones and those with hooks stay.
    Each compiles on its first call with a shape (cached on disk, as by ``tvmconv.conv``) and then holds
    packed copies of its weights: later changes to these are not seen. Parameters keep their names. A module
    that is a convolution itself cannot be replaced in place: what is returned then is another one. Raises
    SpecError for what is not a module; TargetError at the first call where nothing can be compiled.
    """
    if not isinstance(module, torch.nn.Module):
        raise SpecError(f"module: {type(module).__name__}, expected a torch.nn.Module")
    return _replaced(module, target, {})


def _replaced(
    module: torch.nn.Module, target: str, done: dict[torch.nn.Module, torch.nn.Module]
) -> torch.nn.Module:
    if module in done:
        return done[module]
    done[module] = module
    if type(module) in KINDS and not any(
        getattr(module, hooks) for hooks in ("_forward_hooks", "_forward_pre_hooks")
    ):
        done[module] = Convolution(module, target)
    else:
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = _replaced(child, target, done)
    return done[module]


class Convolution(torch.nn.Module):
    """One convolution, compiled for each shape that arrives; channels-last input gives channels-last output,
    without a copy. Safe to call from several threads."""

    def __init__(self, layer: Any, target: str = "native") -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.train(layer.training)
        self._target, self._rank, self._text = target, len(layer.kernel_size), repr(layer)
        self._transposed = bool(layer.transposed)
        self._options = {
            "stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups,
            "padding": _padding(layer),
        }  # fmt: skip
        if layer.transposed:
            self._options |= {"transposed": True, "output_padding": layer.output_padding}
        else:
            self._options["padding_mode"] = layer.padding_mode
        self._bound: dict[tuple[Any, ...], Any] = {}
        self._lock = threading.Lock()
        self._number = next(_numbers)
        _layers[self._number] = self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution of (N, C, ...) or (C, ...). Raises SpecError for a tensor that does not fit."""
        x = checked("input", x)
        if x.dim() == self._rank + 1:
            return self.forward(x[None])[0]
        if x.dim() != self._rank + 2:
            dims = f"{self._rank + 2} dims, or {self._rank + 1} without a batch"
            raise SpecError(f"input: shape {tuple(x.shape)}, expected {dims}")
        # A graph of torch.compile holds an operator; what that calls is packed and kept here.
        return _layer(x, self._number) if torch.compiler.is_compiling() else self.run(x)

    def run(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution of (N, C, ...), by the function compiled for its shape."""
        last = is_channels_last(x)
        x = to_last(x) if last else x
        key = (x.shape, x.dtype, last)
        if key not in self._bound:
            with self._lock:
                if key not in self._bound:
                    self._bound[key] = self._bind(x, last)
        y: torch.Tensor = self._bound[key](x if x.is_contiguous() else x.contiguous())
        return to_first(y) if last else y

    def empty(self, x: torch.Tensor) -> torch.Tensor:
        """What `run` gives, without its numbers."""
        options, rank = self._options, self._rank
        pads = options["padding"] or ((0, 0),) * rank
        return empty_result(
            x, self.weight, options["stride"], [side for pair in pads for side in pair], options["dilation"],
            options.get("output_padding", (0,) * rank), options["groups"], self._transposed,
        )  # fmt: skip

    def _bind(self, x: torch.Tensor, last: bool) -> Any:
        w = self.weight.detach()
        bias = None if self.bias is None else self.bias.detach()
        if w.dtype != x.dtype:
            raise SpecError(f"input: {x.dtype}, expected {w.dtype} as the weights are")
        if last:
            order = (*range(2, w.dim()), 0, 1) if self._transposed else (*range(2, w.dim()), 1, 0)
            w = w.permute(order)
        spec = spec_of(x, w, bias, layout="NHWC" if last else "NCHW", **self._options)
        return function(spec, self._target).bind(w.contiguous(), bias)

    def __deepcopy__(self, memo: dict[int, Any]) -> Convolution:
        raise TypeError("a compiled convolution cannot be copied: copy the module before replacing")

    def __getstate__(self) -> Any:
        raise TypeError("a compiled convolution cannot be pickled: save the module's state_dict()")

    def extra_repr(self) -> str:
        """The layer that it replaced."""
        return self._text


_numbers = itertools.count()
_layers: weakref.WeakValueDictionary[int, Convolution] = weakref.WeakValueDictionary()


@torch.library.custom_op("tvmconv::layer", mutates_args=(), schema="(Tensor x, int number) -> Tensor")
def _layer(x: torch.Tensor, number: int) -> torch.Tensor:
    return _layers[number].run(x.detach())


@_layer.register_fake
def _(x: torch.Tensor, number: int) -> torch.Tensor:
    return _layers[number].empty(x)


def _padding(layer: Any) -> Any:
    """What PyTorch pads with on the low and the high side of each spatial dim."""
    if layer.padding == "valid":
        return 0
    if layer.padding == "same":  # the odd one on the high side
        sums = (d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        return tuple((total // 2, total - total // 2) for total in sums)
    return tuple((pad, pad) for pad in layer.padding)
