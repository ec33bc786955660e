"""Greedy layer-by-layer training of a stack of RBMs."""
