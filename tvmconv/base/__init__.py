"""What every room uses and which uses none itself: errors and element types."""
