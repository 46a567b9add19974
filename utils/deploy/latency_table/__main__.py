"""`python -m secateurs.utils.deploy.latency_table MODEL --out table.json`."""

import sys

from secateurs.utils.deploy.latency_table.cli import main

if __name__ == '__main__':
  sys.exit(main())
