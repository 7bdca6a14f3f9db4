"""What a network is, without compiling it: sizes, costs, and what each value sees of another one."""
