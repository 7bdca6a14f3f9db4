"""PyTorch as an engine of the benchmark: eager code in two layouts, and oneDNN with prepacked weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tvmconv.base.dtypes import is_bfloat16
from tvmconv.bench.engines.layer_data import Layer, Unsupported
from tvmconv.bench.engines.ways import Way, touching
from tvmconv.specs.activations import ACTIVATIONS


class Torch:
    """PyTorch, three engines: `torch` contiguous, `torch-cl` channels-last (both as eager code runs them) and
    `onednn`, whose weights are reordered beforehand: the fused operator that frozen torch.compile graphs
    call, and to_mkldnn tensors in oneDNN's own blocked layout."""

    modules = ("torch",)
    one_pool = True

    def __init__(self, threads: int, options: dict):
        import torch

        self.torch, self.kind = torch, options["engine"]
        torch.set_num_threads(threads)
        torch.inference_mode().__enter__()  # for the life of the process
        self.version = f"torch {torch.__version__}"
        if self.kind == "onednn":
            build = torch.__config__.show()
            self.version += " (oneDNN " + build.partition("MKL-DNN v")[2].partition(" ")[0] + ")"

    def tensor(self, array: np.ndarray) -> Any:
        if is_bfloat16(array):
            return self.torch.from_numpy(array.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(array)

    def way(self, name: str, call: Callable[[], Any], *inputs: Any) -> Way:
        """``inputs``: tensors that the call reads, of those that can be touched."""
        def result() -> np.ndarray:
            y = call()
            y = y.to_dense() if y.is_mkldnn else y
            return (y.int_repr() if y.is_quantized else y.float()).numpy()

        given = [x for x in inputs if x is not None]
        return Way(name, call, result, touch=touching(map(self.memory, given)) if given else None)

    def memory(self, x: Any) -> np.ndarray:
        """All bytes of a tensor, in whatever order."""
        return self.torch.empty(0, dtype=self.torch.uint8).set_(x.untyped_storage()).numpy()

    def order(self, rank: int) -> Any:
        if rank == 1:
            raise Unsupported("PyTorch has no channels-last layout for 1-D data")
        return self.torch.channels_last if rank == 2 else self.torch.channels_last_3d

    def ways(self, layer: Layer) -> Iterator[Way]:
        floats = self.quantised if layer.quantised else self.convolutions
        ways = {"conv": floats, "pool": self.pools}.get(layer.spec.family)
        if ways is None:
            raise Unsupported(f"PyTorch alone has no layer of kind {layer.spec.kind}")
        yield from ways(layer)

    def convolutions(self, layer: Layer) -> Iterator[Way]:
        torch, functional = self.torch, self.torch.nn.functional
        spec: Any = layer.spec  # a convolution's
        data, pads = layer.padded(keep=True)
        x, w = self.tensor(data), self.tensor(layer.w)
        bias = None if layer.bias is None else self.tensor(layer.bias)
        residual = self.tensor(layer.arrays["residual"]) if spec.residual else None
        geometry = (list(spec.stride), pads, list(spec.dilation), spec.groups)
        conv = getattr(functional, f"conv{spec.rank}d")
        if spec.transposed:
            transposed = getattr(functional, f"conv_transpose{spec.rank}d")

            def conv(x, w, bias, stride, pads, dilation, groups):
                return transposed(x, w, bias, stride, pads, list(spec.output_padding), groups, dilation)

        act = self.activation(layer)

        def finish(y, residual=residual):
            return act(y if residual is None else y.add_(residual))

        if self.kind == "torch":
            yield self.way("contiguous", lambda: finish(conv(x, w, bias, *geometry)), x, residual)
            return
        order = self.order(spec.rank)
        xc, wc = x.to(memory_format=order), w.to(memory_format=order)
        rc = None if residual is None else residual.to(memory_format=order)
        if self.kind == "torch-cl":
            yield self.way("channels-last", lambda: finish(conv(xc, wc, bias, *geometry), rc), xc, rc)
            return
        if spec.transposed:
            raise Unsupported("this operator of oneDNN's is for ordinary convolutions")
        stride, _, dilation, groups = geometry
        name, params = layer.activation or ("none", ())
        fused = "none" if name == "none" else ACTIVATIONS[name].onednn
        if not fused:
            raise Unsupported(f"activation {name}")
        limits = [float(c) for c in params if name in ("clip", "leaky_relu")]
        reorder = torch.ops.mkldnn._reorder_convolution_weight
        packed = reorder(w, pads, stride, dilation, groups, list(x.shape))
        fixed = (packed, bias, pads, stride, dilation, groups)
        if rc is None:
            run = torch.ops.mkldnn._convolution_pointwise.default
            yield self.way("prepacked channels-last", lambda: run(xc, *fixed, fused, limits, ""), xc)
        else:
            run, unary = torch.ops.mkldnn._convolution_pointwise.binary, None if name == "none" else fused
            last = ("add", 1.0, unary, limits, "")
            yield self.way("prepacked channels-last", lambda: run(xc, rc, *fixed, *last), xc, rc)
        plain = spec.dtype == "float32" and rc is None
        if spec.rank == 2 and plain and name in ("none", "relu"):  # blocked clamps do not exist
            yield from self.blocked(x, w, bias, geometry, act)

    def activation(self, layer: Layer) -> Callable[[Any], Any]:
        if layer.activation is None:
            return lambda y: y
        name, params = layer.activation
        called, functional = ACTIVATIONS[name].torch, self.torch.nn.functional
        if not called:
            raise Unsupported(f"activation {name}")
        if not called.endswith("_"):
            function = getattr(functional, called)
            return lambda y: function(y, inplace=True)
        function = getattr(functional, called, None) or getattr(self.torch, called)
        return lambda y: function(y, *params)

    def blocked(self, x, w, bias, geometry, act) -> Iterator[Way]:
        torch = self.torch
        stride, pads, dilation, groups = geometry
        reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
        weight = reorder(w.to_mkldnn(), pads, stride, dilation, groups, list(x.shape))
        bias = None if bias is None else bias.to_mkldnn()
        plain, inner = x.to_mkldnn(), self.in_blocks(x)
        for name, data in (("blocked", inner), ("plain mkldnn", plain)):
            yield self.way(
                name, lambda d=data: act(torch.conv2d(d, weight, bias, stride, pads, dilation, groups))
            )

    def in_blocks(self, x) -> Any:
        """x in oneDNN's blocked order. to_mkldnn leaves data in plain order; what an identity convolution
        puts out is in the order in which one layer hands its output to the next."""
        torch, channels = self.torch, x.shape[1]
        eye = torch.ones(channels, 1, 1, 1).to_mkldnn()
        return torch.conv2d(x.to_mkldnn(), eye, None, [1, 1], [0, 0], [1, 1], channels)

    def pools(self, layer: Layer) -> Iterator[Way]:
        functional = self.torch.nn.functional
        spec: Any = layer.spec  # a pooling's
        rank = spec.rank
        data, pads = layer.padded(keep=True)
        x = self.tensor(data)
        if any(2 * pad > kernel for pad, kernel in zip(pads, spec.kernel, strict=True)):
            raise Unsupported("padding of more than half the kernel")
        options: dict[str, Any] = {"ceil_mode": spec.ceil_mode}
        if spec.operation == "max":
            options["dilation"] = spec.dilation
        elif set(spec.dilation) != {1}:
            raise Unsupported("a mean with dilation")
        else:
            options["count_include_pad"] = spec.count_include_pad
        pool = getattr(functional, f"{spec.operation}_pool{rank}d")
        adaptive = getattr(functional, f"adaptive_{spec.operation}_pool{rank}d")

        def ways(name, x):
            yield self.way(name, lambda: pool(x, spec.kernel, spec.stride, pads, **options))
            if spec.is_global:
                yield self.way(f"{name}, adaptive", lambda: adaptive(x, 1))

        if self.kind == "torch":
            yield from ways("contiguous", x)
        elif self.kind == "torch-cl":
            yield from ways("channels-last", x.to(memory_format=self.order(rank)))
        elif rank != 2 or spec.dtype != "float32":
            raise Unsupported("oneDNN's poolings are float32 and 2-D in PyTorch")
        else:
            yield from ways("blocked", self.in_blocks(x))

    def quantised(self, layer: Layer) -> Iterator[Way]:
        """The quantised operators: fbgemm's kernels (`torch-cl`) and oneDNN's, weights packed for each."""
        torch, arrays = self.torch, layer.arrays
        spec: Any = layer.spec  # a convolution's
        if spec.out_dtype != "uint8" or spec.dtype != "uint8" or spec.weight_dtype != "int8":
            raise Unsupported("its quantised convolutions are from uint8 to uint8, with int8 weights")
        if self.kind == "torch":
            raise Unsupported("its quantised convolutions work on channels-last data")
        data, pads = layer.padded(keep=True)
        x = self.tensor(data).contiguous(memory_format=self.order(spec.rank))
        xs, xz, ys, yz = (arrays[n].item() for n in ("x_scale", "x_zero_point", "y_scale", "y_zero_point"))
        ws, wz = self.tensor(arrays["w_scale"]), torch.zeros(spec.out_channels, dtype=torch.int64)
        bias = torch.zeros(spec.out_channels)
        if layer.bias is not None:
            bias = self.tensor(layer.bias) * (xs * ws)
        stride, dilation = list(spec.stride), list(spec.dilation)
        if self.kind == "onednn":
            packed = torch.ops.onednn.qconv_prepack(
                self.tensor(layer.w), ws, xs, xz, stride, pads, dilation, spec.groups, list(x.shape)
            )  # fmt: skip
            run = torch.ops.onednn.qconv2d_pointwise.default
            geometry = (stride, pads, dilation, spec.groups)
            fixed = (packed, ws, wz, bias, *geometry, ys, yz, torch.uint8, "none", [], "")
            yield self.way("prepacked channels-last", lambda: run(x, xs, xz, *fixed), x)
            return
        torch.backends.quantized.engine = "fbgemm"
        xq = torch._make_per_tensor_quantized_tensor(x, xs, xz)
        wq = torch._make_per_channel_quantized_tensor(self.tensor(layer.w), ws.double(), wz, 0)
        packed = torch.ops.quantized.conv2d_prepack(wq, bias, stride, pads, dilation, spec.groups)
        yield self.way("fbgemm", lambda: torch.ops.quantized.conv2d(xq, packed, ys, yz))
