"""The SLIDE algorithm as a readable specification: plain NumPy, one thread, loops where the paper has loops."""
