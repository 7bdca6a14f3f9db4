"""compile: a PyTorch module into one library with one function, behind a module."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from tvmconv.base.errors import Error, SpecError
from tvmconv.compiler.artifact.library import Library
from tvmconv.network.compiling import Network, read
from tvmconv.network.compiling import compile as compile_network
from tvmconv.schedules.machines import Target
from tvmconv.torch.tensors import checked, is_channels_last, to_first, to_last, torch


class CompiledModule(torch.nn.Module):
    """A compiled module: ``y = m(x)``, for tensors of the shapes and types that it was compiled for, without
    a copy if they have that memory format too. library: to export it. Safe to call from several threads."""

    def __init__(self, library: Library, network: Network, names: Sequence[str], structure: Any) -> None:
        super().__init__()
        self.eval()
        self.library, self._structure = library, structure
        self._function = next(iter(library.load().functions.values()))
        graph, layouts = network.graph, network.layouts
        self._inputs = [  # shape as PyTorch has it; whether the function takes it, and channels-last
            (tuple(network.shapes.get(name, ())), name in graph.inputs, layouts.get(name) == "NHWC")
            for name in names
        ]
        self._outputs = [layouts.get(value) == "NHWC" for value in graph.outputs.values()]
        self._order = [names.index(name) for name in graph.inputs]

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The module's results, in its own structure. Raises SpecError for tensors that do not fit."""
        if len(inputs) != len(self._inputs):
            raise SpecError(f"inputs: {len(inputs)}, expected {len(self._inputs)} tensors")
        given = []
        for number, (x, (shape, taken, last)) in enumerate(zip(inputs, self._inputs, strict=True)):
            x = checked(f"inputs[{number}]", x)
            if taken and tuple(x.shape) != shape:
                raise SpecError(f"inputs[{number}]: shape {tuple(x.shape)}, expected {shape}")
            given.append(to_last(x) if last else x)
        results = self._function(*(given[number] for number in self._order))
        several = results if isinstance(results, tuple) else (results,)
        leaves = [to_first(y) if last else y for y, last in zip(several, self._outputs, strict=True)]
        return torch.utils._pytree.tree_unflatten(leaves, self._structure)

    def extra_repr(self) -> str:
        """The function's line in the module's representation."""
        return str(self._function.descriptor)


def compile(
    module: torch.nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    target: Target | Sequence[Target] = "native",
    tuning_logs: str | os.PathLike[str] | None = None,
    *,
    name: str = "main",
    prefix: str | None = None,
    jobs: int | None = None,
    cc: str | None = None,
) -> CompiledModule:
    """A module as a compiled one, for inputs of the examples' shapes and types, in inference mode.

    ``module``: on the CPU, in eval mode; its weights are copied. ``example_inputs``: its positional
    arguments, tensors. If the first batch of images lies channels-last, images are taken and given so,
    without a copy. The others as for ``tvmconv.network.compile``. ``result.library.export("model.so")``
    leaves what C and ``tvmconv.load`` use.

    PyTorch exports the module to ONNX in memory: by ``torch.export`` where onnxscript is installed, else by
    TorchScript. Raises SpecError for a module or examples that do not fit, Error where PyTorch cannot export
    the module, or for an operator that networks do not support; others as ``tvmconv.network.compile``.
    """
    examples = _examples(module, example_inputs)
    names = [f"x{number}" for number in range(len(examples))]
    with torch.no_grad():
        leaves, structure = torch.utils._pytree.tree_flatten(module(*examples))
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            raise SpecError(f"module: gives a {type(leaf).__name__}, expected tensors, in any structure")
    first = next((x for x in examples if x.dim() in (4, 5)), None)
    layout = "nhwc" if first is not None and is_channels_last(first) else "auto"
    network = read(_exported(module, examples, names), layout=layout)
    if len(network.graph.outputs) != len(leaves):
        raise Error(f"module: exported with {len(network.graph.outputs)} results, expected {len(leaves)}")
    library = compile_network(
        network, target, tuning_logs, name=name, prefix=prefix or _prefix(module), jobs=jobs, cc=cc
    )
    return CompiledModule(library, network, names, structure)


def _examples(module: Any, given: Any) -> tuple[torch.Tensor, ...]:
    if not isinstance(module, torch.nn.Module):
        raise SpecError(f"module: {type(module).__name__}, expected a torch.nn.Module")
    if any(part.training for part in module.modules()):
        raise SpecError("module: in training mode, expected one for inference: module.eval()")
    elsewhere = {str(p.device) for p in (*module.parameters(), *module.buffers()) if p.device.type != "cpu"}
    if elsewhere:
        raise SpecError(f"module: on {', '.join(sorted(elsewhere))}, expected in CPU memory: module.cpu()")
    if not isinstance(given, torch.Tensor | tuple | list):
        raise SpecError(f"example_inputs: {type(given).__name__}, expected a tensor or several")
    examples = (given,) if isinstance(given, torch.Tensor) else tuple(given)
    if not examples:
        raise SpecError("example_inputs: none, expected at least one tensor")
    with torch.no_grad():
        return tuple(checked(f"example_inputs[{number}]", x) for number, x in enumerate(examples))


def _exported(module: torch.nn.Module, examples: tuple[torch.Tensor, ...], names: list[str]) -> bytes:
    """The module as an ONNX model's bytes."""
    if find_spec("onnx") is None:
        raise Error("compiling a PyTorch module needs onnx: pip install 'tvmconv[torch]'")
    try:
        with _quiet(), torch.no_grad():
            if find_spec("onnxscript") is not None:
                program = torch.onnx.export(module, examples, dynamo=True, input_names=names, verbose=False)
                return bytes(program.model_proto.SerializeToString())
            file: Any = io.BytesIO()
            torch.onnx.export(
                module,
                examples,
                file,
                dynamo=False,
                input_names=names,
                opset_version=17,  # type: ignore[arg-type]
            )
            return bytes(file.getvalue())
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        why = f"{type(error).__name__}: {lines[0]}"
        raise Error(f"module: PyTorch cannot export {type(module).__name__} to ONNX: {why}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporters print and warn of on the way."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _prefix(module: torch.nn.Module) -> str:
    name = type(module).__name__.lower()
    return name if name.isidentifier() and name.isascii() and not name.startswith("_") else "net"
