"""From a graph to a program: kernels in order, where each value lies, weights packed ahead of time."""
