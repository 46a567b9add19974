"""Compresses LeNet-5 on scikit-learn's handwritten digits; flags: see --help."""

from secateurs.learners import cli


def experiment():  # noqa: ANN201
  """Imported late, so that flags are read before TensorFlow loads."""
  from secateurs.nets.experiments import LENET_AT_DIGITS

  return LENET_AT_DIGITS


if __name__ == '__main__':
  cli.main(experiment)
