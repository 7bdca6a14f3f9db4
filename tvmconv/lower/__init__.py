"""Lowering of a scheduled kernel: TVM's passes for a CPU, and our own (choices, loops, guards, ...)."""

from tvmconv.lower.pipeline import lower_cpu

__all__ = ["lower_cpu"]
