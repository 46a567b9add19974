"""Compresses a stacked LSTM on scikit-learn's handwritten digits, row by row; flags: see --help."""

from secateurs.learners import cli


def experiment():  # noqa: ANN201
  """Imported late, so that flags are read before TensorFlow loads."""
  from secateurs.nets.experiments import LSTM_AT_DIGITS

  return LSTM_AT_DIGITS


if __name__ == '__main__':
  cli.main(experiment)
