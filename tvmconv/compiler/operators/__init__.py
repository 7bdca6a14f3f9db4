"""Operators of networks, compiled for CPUs: a module each, all as loop nests through the same lowering."""

from tvmconv.compiler.operators.kernel import build_kernel, kernel_func, module_for

__all__ = ["build_kernel", "kernel_func", "module_for"]
