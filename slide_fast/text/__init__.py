"""Texts: rows of texts and labels from files, and what makes features of them."""
