"""`python -m genrl` is the command `genrl`."""

import sys

from genrl.cli import main

if __name__ == "__main__":
    sys.exit(main())
