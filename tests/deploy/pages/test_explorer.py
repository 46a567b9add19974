import json

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.deploy.files.convert import tflite_bytes
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.pages.explorer import node_data, write_node_data


def test_thresholds_rise_and_the_worst_is_red():
  values = {f'tensor_{n}': float(n) for n in range(10)}
  found = node_data(values, high_is_bad=True)
  assert found['results']['tensor_3'] == {'value': 3.0}
  ends = [one['value'] for one in found['thresholds']]
  assert ends == sorted(ends)
  assert ends[-1] == 9
  assert found['thresholds'][-1]['bgColor'] == '#d1495b'
  assert node_data(values, high_is_bad=False)['thresholds'][0]['bgColor'] == '#d1495b'
  assert node_data({}, high_is_bad=True) == {'results': {}, 'thresholds': []}


def test_files_name_tensors_of_the_tflite_file(tmp_path):
  inputs = keras.Input((8, 8, 3))
  x = keras.layers.Conv2D(4, 3, activation='relu', name='first')(inputs)
  x = keras.layers.Conv2D(6, 3, name='second')(x)
  path = tmp_path / 'net.tflite'
  path.write_bytes(tflite_bytes(keras.Model(inputs, x)))
  row = {'macs': [100, 50], 'in_channels': [3, 3]}
  report = {
    'layers': [
      {'name': 'first', 'out_channels': [8, 4], **row},
      {'name': 'second', 'out_channels': [6, 6], **row},
      {'name': 'relu', 'out_channels': [8, 4], 'macs': [0, 0]},
    ],
    'int8_layers': {'layers': [{'tensor': 'x', 'alone': 0.5}], 'all': 0.5},
  }
  kept, int8 = write_node_data(report, path, tmp_path)
  found = json.loads(kept.read_text())['results']
  file = OpenFile(path.read_bytes())
  assert set(found) <= {file.name(number) for number in range(file.nb_tensors)}
  assert sorted(one['value'] for one in found.values()) == pytest.approx([0.5, 1.0])
  assert json.loads(int8.read_text())['results'] == {'x': {'value': 0.5}}
  assert np.isfinite([one['value'] for one in found.values()]).all()
