"""File formats: atomic writing, tensors, NumPy arrays, limits on YAML."""
