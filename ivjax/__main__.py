"""`python -m ivjax` is `ivjax`."""

import sys

from ivjax.cli import main

if __name__ == "__main__":
    sys.exit(main())
