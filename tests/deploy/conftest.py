import numpy as np
import pytest
import tf_keras as keras
from small_nets import NETS, build


@pytest.fixture(scope='session')
def images():
  return np.random.default_rng(3).standard_normal((64, 12, 12, 3), np.float32)


@pytest.fixture(params=sorted(NETS))
def any_model(request):
  return build(request.param)


@pytest.fixture
def model():
  return build('residual')


@pytest.fixture(autouse=True)
def _fresh_graph():
  yield
  keras.backend.clear_session()
