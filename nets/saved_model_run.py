"""Compresses a model that you bring, on your images; flags: see --help."""

from secateurs.learners import cli


def experiment():  # noqa: ANN201
  """Imported late, so that flags are read before TensorFlow loads."""
  from secateurs.nets.saved_model import SAVED_MODEL

  return SAVED_MODEL


if __name__ == '__main__':
  cli.main(experiment)
