"""The product: kernels, C entry points, support code and a manifest linked into one shared library."""
