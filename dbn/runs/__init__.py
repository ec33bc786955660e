"""Run folders: configuration, lock, checkpoint, metrics, TensorBoard, weights."""
