"""Texts: reading of texts and labels from files, and their conversion to features."""
