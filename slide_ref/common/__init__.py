"""What the reference and the fast path share: settings, data, keyed randomness, metrics, files."""
