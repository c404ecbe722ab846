"""Files of samples, read block by block."""
