"""Training over several machines; imported only by the command line."""
