"""``python -m slide_fast``: the ``slide`` command."""

import sys

from .cli.main import main

sys.exit(main())
