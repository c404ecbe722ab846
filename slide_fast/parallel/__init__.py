"""Worker processes over shared memory, and what the machine has to offer; knows nothing of SLIDE."""
