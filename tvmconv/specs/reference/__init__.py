"""One referee a kind: NumPy in float64, right by inspection. A spec finds its own by its module's name."""
