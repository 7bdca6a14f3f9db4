"""Candidates built and timed: here, on boards, on a GPU elsewhere."""
