"""One reference per kind: NumPy in float64, correct by inspection. A spec finds its own by its module's
name."""
