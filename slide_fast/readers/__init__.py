"""Readers of sample files, block by block."""
