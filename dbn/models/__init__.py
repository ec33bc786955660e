"""Units, RBMs, stacks and networks: the mathematics alone."""
