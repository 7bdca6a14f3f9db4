"""Schedules: how each kind of convolution is laid out on a machine, and the table of machines."""
