"""From a spec and a machine to a compiled kernel: one module per family of specs, and what they share."""

from tvmconv.compiler.codegen.kernel import (
    Packers,
    build_kernel,
    check_choice,
    llvm_target,
    module_for,
    scheduled,
    spaces,
    symbol_of,
)

__all__ = [
    "Packers", "build_kernel", "check_choice", "llvm_target", "module_for", "scheduled", "spaces",
    "symbol_of",
]  # fmt: skip
