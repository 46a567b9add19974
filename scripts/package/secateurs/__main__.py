"""`python -m secateurs COMMAND ...`: see `secateurs.nets.front`."""

import sys

from secateurs.nets.front import main

if __name__ == '__main__':
  sys.exit(main())
