"""Lowering of a scheduled kernel: TVM's passes for a CPU, and our own (choices, loops, guards, ...)."""

from tvmconv.lower.loops import parallel_loops
from tvmconv.lower.pipeline import generated, lower_cpu, lowered
from tvmconv.lower.workspace import workspace_of

__all__ = ["generated", "lower_cpu", "lowered", "parallel_loops", "workspace_of"]
