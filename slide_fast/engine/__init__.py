"""A training run: its memory, workers, loop and checkpoints."""
