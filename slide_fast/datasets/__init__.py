"""Data sets that the project generates: synthetic data, and identifiers of the standard library."""
