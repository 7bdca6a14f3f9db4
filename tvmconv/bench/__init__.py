"""Timing convolutions against other engines, each in its own process."""
