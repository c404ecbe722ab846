"""A trained model in use: which index it needs, probabilities."""
