"""A trained model in use: the index it needs, predictions, probabilities."""
