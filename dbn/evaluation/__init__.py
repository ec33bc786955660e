"""log Z, log-likelihoods and bounds of a saved model."""
