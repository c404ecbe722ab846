"""Data that the project makes itself: synthetic sets, and the standard library's identifiers."""
