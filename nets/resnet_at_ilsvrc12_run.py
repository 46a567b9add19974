"""Compresses a ResNet on ILSVRC-12; flags: see --help."""

from secateurs.learners import cli


def experiment():  # noqa: ANN201
  """Imported late, so that flags are read before TensorFlow loads."""
  from secateurs.nets.experiments import RESNET_AT_ILSVRC12

  return RESNET_AT_ILSVRC12


if __name__ == '__main__':
  cli.main(experiment)
