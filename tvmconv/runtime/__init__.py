"""Load a library and call its functions, with numpy and nothing else."""
