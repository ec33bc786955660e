"""From a name, a file or arrays to training, validation and test examples."""
