"""Exported files that are damaged, or are not those of the run, in all modes that read them."""

import pytest
import tf_keras as keras

from secateurs.utils.deploy import tflite_bytes
from secateurs.utils.errors import UserError


def test_damaged_files_are_a_sentence_in_each_mode(make, baseline):
  options = {'run': {'warm_start_path': baseline}, 'training': {'nb_epochs_rat': 0.01}}
  learner = make('full-prec', **options)
  learner.train()
  path = learner.files.exported()['tflite']
  content = path.read_bytes()
  again = make('full-prec', **options)
  damages = {
    again.evaluate: content[:1000],
    again.benchmark: content[:400] + bytes(len(content) - 400),
    again.verify: b'',
  }
  for work, damaged in damages.items():
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=f'{path} does not run as a TensorFlow Lite model') as error:
      work()
    assert '\n' not in str(error.value)
  inputs = keras.Input(learner.model.input_shape[1:])
  outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
  path.write_bytes(tflite_bytes(keras.Model(inputs, outputs)))
  with pytest.raises(UserError, match=r'of shape \(3,\), but those of .* are \(10'):
    again.evaluate()
  path.write_bytes(content)
  report = learner.files.log_dir / 'report.json'
  report.write_text(report.read_text()[:100])
  with pytest.raises(UserError, match=f'{report} is damaged .*--exec_mode train'):
    again.evaluate()
