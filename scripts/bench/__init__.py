"""What `benchmark.py` times, how it is compared, and the machine that it is timed on."""
