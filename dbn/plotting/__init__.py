"""Images of what a model has learned, and figures of studies."""
