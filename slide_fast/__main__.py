"""``python -m slide_fast``: the ``slide`` command."""

import sys

from .cli import main

sys.exit(main())
