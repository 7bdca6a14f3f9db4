"""Kinds of layers: what each is, checked once; how it is written, what it computes."""
