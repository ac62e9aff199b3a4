"""`python -m ivjax.cli` is `ivjax`."""

import sys

from ivjax.cli import main

sys.exit(main())
