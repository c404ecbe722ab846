"""Training over several machines; nothing but the command line imports it."""
