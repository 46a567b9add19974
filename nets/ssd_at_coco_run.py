"""Compresses a single-shot detector on COCO; flags: see --help."""

from secateurs.learners import cli


def experiment():  # noqa: ANN201
  """Imported late, so that flags are read before TensorFlow loads."""
  from secateurs.nets.experiments import SSD_AT_COCO

  return SSD_AT_COCO


if __name__ == '__main__':
  cli.main(experiment)
