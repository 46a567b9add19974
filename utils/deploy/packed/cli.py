"""The command that gives the .keras file of a packed network back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from secateurs.utils.errors import UserError
from secateurs.utils.quiet import quiet_tensorflow


def main(argv: Sequence[str] | None = None) -> None:
  """Unpacks a file; exits with 1 and one sentence where that fails."""
  parser = argparse.ArgumentParser(
    prog='python -m secateurs.utils.deploy.packed',
    description='Gives the .keras file of a packed network back.',
  )
  parser.add_argument('packed', help='file that ends in .dc')
  parser.add_argument('keras', nargs='?', help='file to write; default: a new one beside it')
  given = parser.parse_args(argv)
  target = Path(given.keras or Path(given.packed).with_suffix('.keras'))
  try:
    if given.keras is None and target.exists():
      raise UserError(
        f'{target} exists already: name the file to write, as the word after {given.packed}.'
      )
    quiet_tensorflow()
    from secateurs.utils.deploy.packed.network import read
    from secateurs.utils.graph import save_model

    save_model(read(given.packed).model(), target)
  except UserError as error:
    print(f'Error: {error}', file=sys.stderr)
    sys.exit(1)
  print(f'{target}  {target.stat().st_size} bytes')
