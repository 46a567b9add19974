"""Prints the published methods and their settings: python -m secateurs.learners."""

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

from secateurs.learners.methods import table  # noqa: E402

if __name__ == '__main__':
  print(table())
