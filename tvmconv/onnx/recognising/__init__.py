"""Layers found in a model, and what is folded into them."""
