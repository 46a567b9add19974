"""Compresses a small detector on scenes of handwritten digits; flags: see --help."""

from secateurs.learners import cli


def experiment():  # noqa: ANN201
  """Imported late, so that flags are read before TensorFlow loads."""
  from secateurs.nets.experiments import SSD_AT_DIGIT_SCENES

  return SSD_AT_DIGIT_SCENES


if __name__ == '__main__':
  cli.main(experiment)
