"""`python -m llmpipe`: the same as `llmpipe`."""

from __future__ import annotations

import sys

from llmpipe.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
