"""Makes Python on Linux miss what other systems do not have. Runs at the start of each interpreter of a test run with
this folder in PYTHONPATH: that of pytest, of commands and of workers.

``SLIDE_ELSEWHERE=macos``: no memfd, no posix_fallocate, no affinity, no /proc for limits; shared memory is POSIX's.
``SLIDE_ELSEWHERE=windows``: besides, shared memory is found by its name (files in $SLIDE_TAGS stand for the system's).
"""

import mmap
import os
from pathlib import Path

if os.environ.get("SLIDE_ELSEWHERE"):
    for name in ("memfd_create", "posix_fallocate", "sched_getaffinity", "sched_setaffinity", "process_cpu_count"):
        if hasattr(os, name):
            delattr(os, name)

if os.environ.get("SLIDE_ELSEWHERE") == "windows":
    PosixMmap = mmap.mmap

    class TaggedMmap(PosixMmap):
        """Memory that processes find by its name, as on Windows."""

        def __new__(cls, descriptor, length, tagname=None, **options):
            if tagname is None:
                return super().__new__(cls, descriptor, length, **options)
            with open(Path(os.environ["SLIDE_TAGS"], tagname), "ab+") as file:
                file.truncate(max(length, file.tell()))
                return super().__new__(cls, file.fileno(), length)

    mmap.mmap = TaggedMmap
