#!/usr/bin/env python3
"""Example of a build step: a model's convolutions and poolings compiled for the targets of a product.

Copy it into your build and edit the part below. `python build_kernels.py` leaves in OUTPUT, for each target:

    TARGET/model.so    the kernels with their weights, needing nothing but the C library
    TARGET/model.h     declares the C functions, one for each different layer
    TARGET/model.json  the function of each layer's node, and where its activations come from and go to

A build tool runs it when the model changes: it depends on MODEL and its external weights, and writes these
files and no others. With CMake, for instance (of 3.12 or newer):

    set(kernels ${CMAKE_CURRENT_BINARY_DIR}/kernels)
    file(GLOB model CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/model.onnx*)  # with model.onnx.data
    find_package(Python3 REQUIRED)
    add_custom_command(
        OUTPUT ${kernels}/native/model.so ${kernels}/native/model.h ${kernels}/native/model.json
        COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/build_kernels.py
            --model ${CMAKE_CURRENT_SOURCE_DIR}/model.onnx --output ${kernels}
        DEPENDS ${model} ${CMAKE_CURRENT_SOURCE_DIR}/build_kernels.py)
    add_custom_target(make_kernels DEPENDS ${kernels}/native/model.so)
    add_library(kernels SHARED IMPORTED)
    set_target_properties(kernels PROPERTIES IMPORTED_LOCATION ${kernels}/native/model.so)
    add_dependencies(kernels make_kernels)

and for each program that calls them:

    target_link_libraries(app PRIVATE kernels)
    target_include_directories(app PRIVATE ${kernels}/native)
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import tvmconv
from tvmconv.onnx import compile_model, extract

# ---- edit here ----

MODEL = Path("model.onnx")
OUTPUT = Path("kernels")

# What the product runs on; `tvmconv targets` lists the names. Each gets a library of its own.
TARGETS = ["native"]

# Shapes of the inputs that the model leaves open; kernels are made for fixed shapes. With several shapes in
# use, for instance two batch sizes, build one library for each, with a PREFIX of its own.
SHAPES: dict[str, tuple[int, ...]] = {}  # {"x": (1, 3, 48, 192)}

# NCHW takes activations as the model has them. NHWC is often faster, if your code can keep them so.
LAYOUT = "NCHW"

# The prefix of the C functions, so that several libraries fit into one program.
PREFIX = "model"

# ---- no need to edit below ----


def main() -> int:
    """Build all targets; 0 if that went well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=1x3x224x224")
    parser.add_argument("--target", action="append", default=[], metavar="TARGET")
    arguments = parser.parse_args()
    try:
        shapes = {**SHAPES, **tvmconv.onnx.parse_shapes(arguments.shape)}
        build(arguments.model, arguments.output, arguments.target or TARGETS, shapes)
    except (tvmconv.Error, OSError) as error:
        # Errors of tvmconv are one line for people: what was given, and what was expected.
        print(f"build_kernels: error: {error}", file=sys.stderr)
        return 1
    return 0


def build(model: Path, output: Path, targets: list[str], shapes: dict) -> None:
    """One library a target."""
    # The layers are the same for all targets: find them once. Each layer has its descriptor (layer.spec), its
    # weights with batch normalisation folded in (layer.bound), and the names of the values in the graph
    # between which it stands (layer.inputs, layer.y).
    found = extract(model, shapes, layout=LAYOUT)
    for item in found.skipped:
        print(f"build_kernels: not compiled: {item.op_type} {item.name}: {item.reason}", file=sys.stderr)

    for target in targets:
        # Kernels that were compiled before come from a cache on disk, so a second build takes seconds.
        library = compile_model(found, target, bake_weights=True, prefix=PREFIX, progress=show)
        folder = output / target
        folder.mkdir(parents=True, exist_ok=True)
        path = library.export(folder / f"{model.stem}.so")

        # The manifest is inside the library as well; `tvmconv inspect` prints it. Here it becomes a table for
        # the code that calls the functions.
        layers = {layer.name: layer for layer in found.layers}
        table = [
            {
                "node": node,
                "function": function.get("symbol", function["name"]),  # in C, with the prefix
                "descriptor": function["descriptor"],
                "from": layers[node].inputs,
                "to": layers[node].y,
            }
            for function in library.manifest["functions"]
            for node in function["onnx_nodes"]
        ]
        path.with_suffix(".json").write_text(json.dumps(table, indent=2) + "\n")
        print(f"{path}: {len(table)} layers in {len(library.functions)} functions")


def show(done: int, total: int, descriptor: str) -> None:
    """Progress, one line a kernel."""
    print(f"[{done}/{total}] {descriptor}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
