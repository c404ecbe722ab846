"""Comparison of reference and fast path, step by step; the only package that imports the reference's algorithm."""
