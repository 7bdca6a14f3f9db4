"""Arrays and functions on a GPU, using only the driver's API."""
