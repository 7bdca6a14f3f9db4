"""Tuning a network: its layers timed where they run, and changed where that makes the whole faster."""
