"""Compresses a single-shot detector on PASCAL VOC; flags: see --help."""

from secateurs.learners import cli


def experiment():  # noqa: ANN201
  """Imported late, so that flags are read before TensorFlow loads."""
  from secateurs.nets.experiments import SSD_AT_VOC

  return SSD_AT_VOC


if __name__ == '__main__':
  cli.main(experiment)
