"""One training run: its memory, its workers, its loop, its checkpoints."""
