"""What is done with a model's layers: a library, its verification, its times; single nodes."""
