"""What is trained: a stage is the parameters it needs, its loss, and the batch it wants."""
