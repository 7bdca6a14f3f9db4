"""What every room uses and that uses none: errors and element types."""
