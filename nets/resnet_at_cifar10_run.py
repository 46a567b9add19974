"""Compresses a ResNet for 32x32 images on CIFAR-10; flags: see --help."""

from secateurs.learners import cli


def experiment():  # noqa: ANN201
  """Imported late, so that flags are read before TensorFlow loads."""
  from secateurs.nets.experiments import RESNET_AT_CIFAR10

  return RESNET_AT_CIFAR10


if __name__ == '__main__':
  cli.main(experiment)
