"""Networks trained alike from several initializations, and compared."""
