"""Worker processes over shared memory, and resources of the machine; independent of SLIDE."""
