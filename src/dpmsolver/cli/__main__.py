"""`python -m dpmsolver.cli`."""

import sys

from dpmsolver.cli import main

sys.exit(main())
