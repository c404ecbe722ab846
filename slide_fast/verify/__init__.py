"""The reference beside the fast path, step by step; the only room that imports the reference's algorithm."""
