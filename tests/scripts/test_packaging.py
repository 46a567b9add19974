import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*args, **options):
  done = subprocess.run(args, capture_output=True, text=True, check=False, **options)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_one_package_and_imports(tmp_path):
  run(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '-w', str(tmp_path), str(ROOT))
  (wheel,) = tmp_path.glob('secateurs-*.whl')
  with zipfile.ZipFile(wheel) as archive:
    names = [n for n in archive.namelist() if '.dist-info/' not in n]
    archive.extractall(tmp_path / 'site')
  assert {n.split('/')[0] for n in names} == {'secateurs'}
  assert 'secateurs/utils/deploy/templates/report.html.j2' in names
  code = (
    'import secateurs.learners.cli, secateurs.nets.model_helper, secateurs.utils.graph as graph;'
    'print(graph.__file__)'
  )
  # -I would drop PYTHONPATH; running from an empty folder keeps the checkout out.
  environment = os.environ | {'PYTHONPATH': str(tmp_path / 'site'), 'TF_CPP_MIN_LOG_LEVEL': '3'}
  assert (
    run(sys.executable, '-c', code, cwd=tmp_path, env=environment)
    .strip()
    .startswith(str(tmp_path / 'site'))
  )


def test_the_launcher_tells_how_it_is_used(tmp_path):
  script = str(ROOT / 'scripts' / 'run_local.sh')
  assert 'nets/resnet_at_cifar10_run.py' in run(script, '--help')
  done = subprocess.run(
    [script, 'nets/nothing_run.py'], capture_output=True, text=True, check=False, cwd=tmp_path
  )
  assert done.returncode == 2
  assert 'Error: the entry script nets/nothing_run.py does not exist.' in done.stderr


def test_the_environment_is_entered_at_once_when_nothing_changed(tmp_path):
  """A venv with the stamp of this setup.py is taken as it is: pip is not asked."""
  folder = tmp_path / 'venv'
  (folder / 'bin').mkdir(parents=True)
  stamp = (
    'wanted="$1 $("$2" --version) $(cksum <"$1/setup.py") $(cksum <"$1/pyproject.toml")"; '
    'echo "$wanted" >"$3"'
  )
  run('bash', '-c', stamp, 'x', str(ROOT), sys.executable, str(folder / '.secateurs-installed'))
  environment = os.environ | {'SECATEURS_VENV': str(folder), 'SECATEURS_PYTHON': sys.executable}
  out = run('bash', '-c', f'source {ROOT}/scripts/env.sh; echo "$PATH"', env=environment)
  assert out.startswith(f'{folder}/bin:')


def test_a_python_that_does_not_fit_is_told_and_the_terminal_stays(tmp_path):
  environment = os.environ | {
    'SECATEURS_VENV': str(tmp_path / 'venv'),
    'SECATEURS_PYTHON': 'python-that-is-not-there',
  }
  done = subprocess.run(
    ['bash', '-c', f'source {ROOT}/scripts/env.sh; echo "ended with $?"'],
    capture_output=True,
    text=True,
    check=False,
    env=environment,
  )
  assert done.stdout == 'ended with 1\n'
  assert 'Error: python-that-is-not-there was not found' in done.stderr


@pytest.mark.parametrize(
  'words',
  [
    ['run_tests.sh'],
    ['leaderboard.sh', 'nets/lenet_at_digits_run.py'],
    ['install_horovod.sh'],
    ['run_local.sh', 'nets/lenet_at_digits_run.py'],
    ['run_local.sh', 'nets/lenet_at_digits_run.py', '-n=2'],
  ],
)
def test_scripts_stop_where_there_is_no_environment(words, tmp_path):
  (tmp_path / 'file').write_text('')
  environment = os.environ | {
    'SECATEURS_VENV': str(tmp_path / 'file' / 'venv'),
    'SECATEURS_PYTHON': sys.executable,
    'OUT': str(tmp_path / 'out'),
  }
  done = subprocess.run(
    [str(ROOT / 'scripts' / words[0]), *words[1:]],
    capture_output=True,
    text=True,
    check=False,
    env=environment,
  )
  assert done.returncode == 1
  assert done.stdout == ''
  told = (
    f'Error: {tmp_path}/file/venv is not writable: set SECATEURS_VENV to another folder.'
  )
  assert told in done.stderr.splitlines()


def test_an_environment_of_another_python_is_made_anew(tmp_path):
  def stand_in(path, version):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
      f"""#!/usr/bin/env bash
case "$*" in
  --version) echo "Python {version}" ;;
  *_base_executable*) echo "$0" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" ;;
esac
"""
    )
    path.chmod(0o755)
    return str(path)

  folder = tmp_path / 'venv'
  stand_in(folder / 'bin' / 'python', '3.10.1')
  stand_in(folder / 'bin' / 'pip', '')
  (folder / 'pyvenv.cfg').write_text('')
  (folder / 'lib' / 'python3.10').mkdir(parents=True)
  environment = os.environ | {
    'SECATEURS_VENV': str(folder),
    'SECATEURS_PYTHON': stand_in(tmp_path / 'python', '3.12.4'),
  }
  command = f'source {ROOT}/scripts/env.sh && python --version'
  assert run('bash', '-c', command, env=environment) == 'Python 3.12.4\n'
  assert not (folder / 'lib').exists()
  assert (folder / 'install.log').is_file()
  (folder / '.secateurs-installed').unlink()
  (folder / 'lib').mkdir()
  run('bash', '-c', command, env=environment)
  assert (folder / 'lib').exists()  # As it was: only what setup.py asks for is installed again.
