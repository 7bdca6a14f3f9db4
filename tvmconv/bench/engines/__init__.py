"""Other engines, each driven in its own process."""
