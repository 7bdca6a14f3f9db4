"""Candidates built and timed: here, on boards, on a GPU that is elsewhere."""
