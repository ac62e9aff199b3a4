"""Where the numbers of a run are shown beside its own files: TensorBoard, Weights & Biases, MLflow."""
