import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jedi
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'scripts' / 'package' / 'secateurs'


def run(*args, **options):
  done = subprocess.run(args, capture_output=True, text=True, check=False, **options)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
  """A copy of the project, so that a build leaves nothing in the checkout and finds no old files."""
  root = tmp_path_factory.mktemp('copy') / 'project'
  skipped = shutil.ignore_patterns(
    '.*', 'tests', 'docs', 'runs', 'build', '*.egg-info', '__pycache__'
  )
  shutil.copytree(ROOT, root, symlinks=True, ignore=skipped)
  return root


@pytest.fixture(scope='module')
def build(copy, tmp_path_factory):
  """Calls a hook of the build backend, `wheel` or `editable`; gives the wheel's opened archive."""
  tools = tmp_path_factory.mktemp('tools')
  run(
    *(sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'),
    *('--target', str(tools), 'setuptools>=68', 'wheel'),
  )

  def call(kind):
    folder = tmp_path_factory.mktemp(kind)
    code = f'from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})'
    run(sys.executable, '-c', code, cwd=copy, env=os.environ | {'PYTHONPATH': str(tools)})
    (wheel,) = folder.glob('secateurs-*.whl')
    return zipfile.ZipFile(wheel)

  return call


def version():
  text = (PACKAGE / '__init__.py').read_text(encoding='utf-8')
  return re.search(r"__version__ = '(.+)'", text)[1]


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package(build, tmp_path):
  with build('wheel') as archive:
    names = {n for n in archive.namelist() if '.dist-info/' not in n}
    assert f'secateurs-{version()}.dist-info/METADATA' in archive.namelist()
    archive.extractall(tmp_path / 'site')
  expected = {
    f'secateurs/{path.relative_to(ROOT).as_posix()}'
    for room in ('learners', 'nets', 'utils')
    for pattern in ('*.py', 'templates/*')
    for path in (ROOT / room).rglob(pattern)
  }
  assert names == expected | {'secateurs/__init__.py', 'secateurs/__main__.py'}
  assert 'secateurs/utils/deploy/pages/templates/report.html.j2' in names
  code = (
    'import secateurs, secateurs.learners.cli, secateurs.nets.model_helper;'
    'import secateurs.utils.graph as graph; print(secateurs.__version__, graph.__file__)'
  )
  # -I would drop PYTHONPATH; running from an empty folder keeps the checkout out.
  environment = os.environ | {'PYTHONPATH': str(tmp_path / 'site'), 'TF_CPP_MIN_LOG_LEVEL': '3'}
  found = run(sys.executable, '-c', code, cwd=tmp_path, env=environment)
  assert found.startswith(f'{version()} {tmp_path / "site"}')


@pytest.mark.slow
def test_editors_find_definitions_through_an_editable_install(build, copy, tmp_path):
  """The install is one line in a .pth file, and no import hook that only Python understands."""
  with build('editable') as archive:
    files = [n for n in archive.namelist() if '.dist-info/' not in n]
    assert files == [f'__editable__.secateurs-{version()}.pth']
    (folder,) = archive.read(files[0]).decode().split()
  assert Path(folder) == copy / 'scripts' / 'package'
  code = 'from secateurs.utils.config import option\n'
  project = jedi.Project(str(tmp_path), sys_path=[folder, *sys.path])
  (found,) = jedi.Script(code, path=tmp_path / 'x.py', project=project).goto(
    1, code.index('option'), follow_imports=True
  )
  assert found.module_path.resolve() == copy / 'utils' / 'config.py'
  assert (found.name, found.type) == ('option', 'function')


def test_the_package_of_a_checkout_is_links():
  assert {p.name for p in PACKAGE.iterdir() if p.is_symlink()} == {'learners', 'nets', 'utils'}
  for name in ('learners', 'nets', 'utils'):
    assert (PACKAGE / name).resolve() == (ROOT / name).resolve()
    assert not Path(os.readlink(PACKAGE / name)).is_absolute()


def test_a_copy_without_links_is_not_installed(tmp_path):
  """As git makes it on a file system without symbolic links: files that contain the target."""
  package = tmp_path / 'scripts' / 'package' / 'secateurs'
  package.mkdir(parents=True)
  for name in ('setup.py', 'README.md'):
    shutil.copy(ROOT / name, tmp_path)
  shutil.copy(PACKAGE / '__init__.py', package)
  (package / 'utils').write_text('../../../utils')
  done = subprocess.run(
    [sys.executable, 'setup.py', '--version'], cwd=tmp_path, capture_output=True, text=True
  )
  assert done.returncode == 1
  assert 'this copy was made without symbolic links' in done.stderr


def test_the_launcher_prints_its_usage(tmp_path):
  script = str(ROOT / 'scripts' / 'run_local.sh')
  assert 'nets/resnet_at_cifar10_run.py' in run(script, '--help')
  done = subprocess.run(
    [script, 'nets/nothing_run.py'], capture_output=True, text=True, check=False, cwd=tmp_path
  )
  assert done.returncode == 2
  assert 'Error: the entry script nets/nothing_run.py does not exist: -h lists' in done.stderr


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


def test_a_missing_python_is_reported_and_the_terminal_stays(tmp_path):
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
  told = f'Error: {tmp_path}/file/venv is not writable: set SECATEURS_VENV to another folder.'
  assert told in done.stderr.splitlines()


def stand_in(path, version):
  """A script that answers like the `python` of an environment, and writes down what it is told."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(
    f"""#!/usr/bin/env bash
case "$*" in
  --version) echo "Python {version}" ;;
  *_base_executable*) echo "$0" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" ;;
  "-m pip install "*) echo "told: $*" ;;
esac
"""
  )
  path.chmod(0o755)
  return str(path)


def test_an_environment_of_another_python_is_created_again(tmp_path):
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


def test_extras_are_added_once(tmp_path):
  folder = tmp_path / 'venv'
  environment = os.environ | {
    'SECATEURS_VENV': str(folder),
    'SECATEURS_PYTHON': stand_in(tmp_path / 'python', '3.12.4'),
  }

  def installed(extras):
    (folder / 'install.log').unlink(missing_ok=True)
    run(
      'bash',
      '-c',
      f'source {ROOT}/scripts/env.sh',
      env=environment | {'SECATEURS_EXTRAS': extras},
    )
    log = folder / 'install.log'
    return log.read_text() if log.is_file() else None

  assert '[quant,search]\n' in installed('')
  assert installed('') is None
  assert '[quant,search,test]\n' in installed('test')
  assert installed('test') is None
  assert installed('') is None  # The larger environment serves, too.
