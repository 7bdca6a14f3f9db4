"""From specs to kernels: TE definitions, lowering, code generation, the cache."""
