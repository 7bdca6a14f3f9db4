"""What a kernel costs by its machine code alone, by llvm-mca."""
