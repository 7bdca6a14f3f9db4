"""Kinds of layers: what each is, checked once; how it is written down, what it gives."""
