"""What the memories of all CPUs have in common."""

LINE = 64  # bytes of a cache line
PAGE = 4096  # bytes
