"""What every training shares: the loop, devices, optimizers, processes."""
