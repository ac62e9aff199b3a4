"""PyTorch checkpoints <-> ivjax parameters: one table of rows per family, one strict engine."""
