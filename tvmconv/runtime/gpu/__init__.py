"""Arrays and functions on a GPU, by the driver's interface alone."""
