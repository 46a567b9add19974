import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_script():
  """Runs a Python script of the project at its root; gives the finished process."""

  def run(script, *args):
    command = [sys.executable, script, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

  return run
