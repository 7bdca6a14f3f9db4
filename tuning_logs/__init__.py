"""Tuning logs that ship with the package, one folder a target."""
