"""Benchmarks: the cases that are timed, the baselines they are compared with, and the machine."""
