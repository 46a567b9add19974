"""Runs the comparison: `python -m secateurs.utils.deploy.compare`."""

import sys

from secateurs.utils.deploy.compare.cli import main

sys.exit(main())
