"""log Z, log-likelihoods, their bounds and their gradient."""
