"""The search over points: its space, its records, how trials are spent."""
