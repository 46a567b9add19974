import shutil

import numpy as np
import pytest
import tf_keras as keras
from small_nets import NETS, build

from secateurs.utils.deploy.files.export import export_model


@pytest.fixture(scope='session')
def images():
  return np.random.default_rng(3).standard_normal((64, 12, 12, 3), np.float32)


@pytest.fixture
def model():
  """A net for tests that change or replace it."""
  return build('residual')


@pytest.fixture(scope='session')
def exported(images, tmp_path_factory):
  """Kind of net -> (model, its export with the integer file), made once; for reading only."""
  made = {}

  def get(kind):
    if kind not in made:
      model = build(kind)
      prefix = tmp_path_factory.mktemp(kind) / 'model'
      made[kind] = model, export_model(model, prefix, calibration=images, int8=True)
    return made[kind]

  return get


@pytest.fixture(params=sorted(NETS))
def any_export(request, exported):
  return exported(request.param)


@pytest.fixture
def earlier(exported, tmp_path):
  """A folder with an earlier export of the residual net under `model`."""
  for file in exported('residual')[1].files.values():
    shutil.copy(file.path, tmp_path)
  return tmp_path


@pytest.fixture(autouse=True)
def _fresh_graph():
  yield
  keras.backend.clear_session()
