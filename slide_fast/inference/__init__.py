"""Inference with a trained model: its index, predictions, probabilities."""
