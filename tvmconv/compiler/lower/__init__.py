"""Lowering of a scheduled kernel: TVM's passes for a CPU, and our own (choices, loops, guards, ...)."""

from tvmconv.compiler.lower.loops import parallel_loops
from tvmconv.compiler.lower.pipeline import generated, lower_cpu, lowered
from tvmconv.compiler.lower.workspace import workspace_of

__all__ = ["generated", "lower_cpu", "lowered", "parallel_loops", "workspace_of"]
