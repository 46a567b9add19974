"""The three launchers, with stand-ins on PATH for the programs that they start."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SEEDS = {
  'local': 'nets/resnet_at_cifar10_run.py --learner dis-chn-pruned --dcp_prune_ratio 0.75',
  'docker': 'nets/resnet_at_ilsvrc12_run.py -n=4 --learner dis-chn-pruned --resnet_size 34 '
  '--dcp_nb_stages 4',
  'seven': 'nets/mobilenet_at_ilsvrc12_run.py -n=8 --learner dis-chn-pruned --mobilenet_version 2 '
  '--enbl_dst',
}


@pytest.fixture
def launch(tmp_path):
  """Runs a launcher in an empty folder, where `stand_in` programs come first on PATH."""
  (tmp_path / 'bin').mkdir(exist_ok=True)

  def run(mode, words, **environment):
    path = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    return subprocess.run(
      [
        str(ROOT / 'scripts' / f'run_{mode}.sh'),
        *(words.split() if isinstance(words, str) else words),
      ],
      capture_output=True,
      text=True,
      check=False,
      cwd=tmp_path,
      env=os.environ | {'PATH': path, 'SECATEURS_PYTHON': sys.executable} | environment,
    )

  return run


@pytest.fixture
def stand_in(tmp_path):
  """Makes a program that writes its arguments to <name>.log, one call a line, and runs a script."""
  (tmp_path / 'bin').mkdir(exist_ok=True)

  def make(name, script='exit 0'):
    path = tmp_path / 'bin' / name
    path.write_text(
      f'#!/usr/bin/env bash\nprintf "%s\\n" "$*" >>"{tmp_path}/{name}.log"\n{script}\n'
    )
    path.chmod(0o755)
    return tmp_path / f'{name}.log'

  return make


@pytest.fixture
def environment(tmp_path):
  """An environment that env.sh takes as it is: the launchers' own `python` stands in it."""
  folder = tmp_path / 'venv'
  (folder / 'bin').mkdir(parents=True)
  stamp = (
    'wanted="$1 $("$2" --version) $(cksum <"$1/setup.py") $(cksum <"$1/pyproject.toml")"; '
    'echo "$wanted" >"$3"'
  )
  words = [
    'bash',
    '-c',
    stamp,
    'x',
    str(ROOT),
    sys.executable,
    str(folder / '.secateurs-installed'),
  ]
  subprocess.run(words, check=True)
  return {'SECATEURS_VENV': str(folder)}


@pytest.mark.parametrize('mode', SEEDS)
def test_the_documents_commands_are_understood(mode, launch, tmp_path):
  (tmp_path / 'path.conf').write_text(
    '# where data lies\ndata_dir_local_ilsvrc12 = /data/ilsvrc12  # records\nhosts = None\n'
  )
  done = launch(mode, SEEDS[mode] + ' --print_command')
  assert done.returncode == 0, done.stderr
  last = done.stdout.splitlines()[-1]
  script = SEEDS[mode].split()[0]
  flags = ' '.join(w for w in SEEDS[mode].split()[1:] if not w.startswith('-n='))
  assert f'{script} ' in last
  assert flags in last
  if mode == 'local':
    assert last.startswith('python ')
  if mode == 'docker':
    assert done.stdout.startswith('docker build -t secateurs:')
    assert '-v /data/ilsvrc12:/data/ilsvrc12:ro' in last
    assert f'{script} -n=4 --learner' in last
    assert last.endswith('--data_dir_local /data/ilsvrc12')
  if mode == 'seven':
    assert last.startswith('horovodrun --gloo -np 8 -H localhost:8 ')
    assert 'No --hosts were given' in done.stderr


ODD = ('--a', 'x y', '--b', 'it\'s "q"', '--c', '$(exit 3) `exit 4`', '--d', 'two\nlines', '--net', '',
       '--e', 'a;b&c|d>e', '--f=é*?[a] \\', '--', '-x')  # fmt: skip


@pytest.mark.parametrize('mode', SEEDS)
@pytest.mark.parametrize('number', [1, 2])
def test_words_reach_the_program_as_they_were_given(mode, number, launch):
  words = ['nets/lenet_at_digits_run.py', f'-n={number}', *ODD, '--print_command']
  found = shlex.split(launch(mode, words).stdout)
  assert tuple(found[-len(ODD) :]) == ODD
  inside = [f'-n={number}'] if (mode, number) == ('docker', 2) else []
  assert found[-len(ODD) - 1 - len(inside)].endswith('lenet_at_digits_run.py')
  assert found[-len(ODD) - len(inside) : -len(ODD)] == inside


def test_a_manifest_holds_the_words_as_they_were_given(launch):
  words = ['nets/lenet_at_digits_run.py', '-n=8', *ODD, '--mpijob']
  manifest = yaml.safe_load(launch('seven', words).stdout)
  pods = manifest['spec']['mpiReplicaSpecs']['Launcher']['template']['spec']
  assert tuple(pods['containers'][0]['command'][-len(ODD) :]) == ODD


@pytest.mark.slow
def test_words_reach_each_process(launch, environment, tmp_path):
  pytest.importorskip('horovod')
  script = tmp_path / 'told_run.py'
  script.write_text('import sys\nprint(ascii(sys.argv[1:]))\n')
  path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
  done = launch('local', [str(script), '-n=2', *ODD], PATH=path, **environment)
  lines = sorted(done.stdout.splitlines(), key=len)  # Whoever is first.
  assert lines == [f'{start}{list(ODD)!a}' for start in ('', '[rank 1] ')]


def test_several_processes_go_through_horovodrun(launch):
  done = launch('local', 'nets/lenet_at_digits_run.py -n 2 --learner full-prec --print_command')
  assert done.stdout.startswith('horovodrun --gloo -np 2 -H localhost:2 ')
  assert done.stdout.rstrip().endswith('lenet_at_digits_run.py --learner full-prec')


@pytest.mark.parametrize(('gpus', 'cycle'), [(False, '5'), (True, '1')])
def test_ranks_on_gpus_ask_each_other_more_often(gpus, cycle, launch, stand_in):
  if gpus:
    stand_in('nvidia-smi', 'printf "0, 0, 0\\n1, 0, 0\\n"')
  done = launch('local', 'nets/lenet_at_digits_run.py -n 2 --learner full-prec --print_command')
  assert f' --cycle-time-ms {cycle} ' in done.stdout


@pytest.mark.parametrize('mode', SEEDS)
def test_help_names_every_flag(mode, launch):
  for words in ([], ['-h'], ['--help']):
    done = launch(mode, words)
    assert done.returncode == 0
    assert f'./scripts/run_{mode}.sh <entry script> [-n=K]' in done.stdout
    assert '--print_command' in done.stdout
    assert ('--dry_run' in done.stdout) == (mode != 'local')
    assert ('--hosts' in done.stdout) == (mode == 'seven')


@pytest.mark.parametrize(
  ('mode', 'words', 'told'),
  [
    (
      'local',
      'nets/nothing_run.py -n=2',
      'the entry script nets/nothing_run.py does not exist: -h lists',
    ),
    ('local', '--learner full-prec', 'the entry script comes first'),
    ('local', 'nets/lenet_at_digits_run.py -n=0', '-n takes a whole number of at least 1, but'),
    ('local', 'nets/lenet_at_digits_run.py -n', '-n takes a value, as in -n=K.'),
    (
      'local',
      'nets/lenet_at_digits_run.py --print_command=yes',
      "--print_command takes no value, but 'yes'",
    ),
    ('seven', 'nets/lenet_at_digits_run.py -n=4 --hosts a:1,b:2', '--hosts has room for 3.'),
    ('seven', 'nets/lenet_at_digits_run.py -n=4 --hosts a,b', 'as in a:4,b:4, but'),
    ('seven', 'nets/lenet_at_digits_run.py -n=9 --mpijob', 'give --slots a divisor of it.'),
    ('local', 'nets/lenet_at_digit_run.py', 'did you mean nets/lenet_at_digits_run.py?'),
    ('local', 'nets/lenet_at_digits_run.py --print-command', 'did you mean --print_command?'),
    ('local', 'nets/lenet_at_digits_run.py --n=2', '--n is no flag: did you mean -n?'),
    ('local', 'nets/lenet_at_digits_run.py -np 2', '-np is no flag: did you mean -n?'),
    ('local', 'nets/lenet_at_digits_run.py -n2', '-n2 is no flag: did you mean -n?'),
    ('docker', 'nets/lenet_at_digits_run.py --images=mine', 'did you mean --image?'),
    ('seven', 'nets/lenet_at_digits_run.py -n=2 --host a:2', 'did you mean --hosts?'),
    ('seven', 'nets/lenet_at_digits_run.py -n=2 --slots 2', '--slots needs --mpijob'),
    ('seven', 'nets/lenet_at_digits_run.py -n=2 --hosts a:2 --mpijob', 'no effect with --mpijob'),
  ],
)
def test_mistakes_are_reported_in_a_sentence(mode, words, told, launch):
  done = launch(mode, words)
  assert done.returncode == 2
  assert done.stderr.startswith('Error: ')
  assert told in done.stderr
  assert done.stderr.count('\n') == 1


def test_no_flag_of_a_script_is_taken_for_a_typing_error_of_the_launchers(launch):
  named = (ROOT / 'docs' / 'flags.md').read_text(encoding='utf-8')
  flags = sorted(set(re.findall(r'`--(?:\[no\])?(\w+)', named)))
  assert len(flags) > 100
  words = [f'--{flag}=1' for flag in flags if flag != 'dry_run']
  for mode in SEEDS:
    done = launch(mode, ['nets/lenet_at_digits_run.py', *words, '--print_command'])
    assert done.returncode == 0, done.stderr
    assert set(words) <= set(shlex.split(done.stdout))


def test_one_process_on_another_host_runs_there(launch):
  words = 'nets/lenet_at_digits_run.py -n=1 --print_command --hosts '
  assert launch('seven', words + 'localhost2:1').stdout.startswith('horovodrun ')
  assert launch('seven', words + 'localhost:1').stdout.startswith('python ')


def test_docker_builds_once_and_passes_the_exit_code_through(launch, stand_in, tmp_path):
  log = stand_in(
    'docker',
    f'case "$1" in image) [ -f "{tmp_path}/built" ];; build) touch "{tmp_path}/built";; '
    'run) exit 7;; esac',
  )
  stand_in('nvidia-smi', 'printf "0, 4000, 90\\n1, 10, 0\\n2, 10, 5\\n3, 0, 50\\n"')
  words = (
    f'nets/lenet_at_digits_run.py -n=2 --run_dir {tmp_path}/deep/runs '
    f'--warm_start_path={tmp_path}/given/w.npz'
  )
  for _ in range(2):
    assert launch('docker', words).returncode == 7
  calls = log.read_text().splitlines()
  assert [call.split()[0] for call in calls] == ['image', 'build', 'run', 'image', 'run']
  run = calls[-1]
  assert '--gpus "device=3,1"' in run  # Least memory in use, then least to do.
  assert f'-u {os.getuid()}:{os.getgid()} ' in run
  for folder in (tmp_path, tmp_path / 'deep' / 'runs', tmp_path / 'given'):
    assert f'-v {folder}:{folder} ' in run
    assert folder.is_dir()  # Made by the caller: docker would make it root's.
  assert f'-v {ROOT}:/opt/secateurs:ro' in run
  assert (
    '/opt/secateurs/scripts/run_local.sh /opt/secateurs/nets/lenet_at_digits_run.py -n=2' in run
  )


def test_docker_mounts_the_folders_that_prefixes_lie_in(launch, stand_in, tmp_path):
  stand_in('docker')
  (tmp_path / 'home' / 'd').mkdir(parents=True)
  (tmp_path / 'saved').mkdir()
  words = [
    'nets/lenet_at_digits_run.py', '--dry_run', '--data_dir_local=~/d',
    '--ws_save_path_eval', f'{tmp_path}/out/model', f'--save_path_dst={tmp_path}/saved',
    '--warm_start_path', f'{tmp_path}/given/model-7', '--log_dir=~/logs',
    '--plan', f'../{tmp_path.name}_beside/plan.json',
  ]  # fmt: skip
  run = launch('docker', words, HOME=f'{tmp_path}/home').stdout.splitlines()[-1]
  mounted = {word.partition(':')[0] for word in run.split() if word.count(':') and word[0] == '/'}
  expected = {'', '/out', '/home/d', '/given', '/home/logs', '_beside'}
  assert expected == {m[len(str(tmp_path)) :] for m in mounted if m.startswith(str(tmp_path))} - {
    '/home/.cache/secateurs'
  }
  assert f'--data_dir_local={tmp_path}/home/d ' in run
  assert f'--log_dir={tmp_path}/home/logs --plan ../' in run


def test_more_processes_than_gpus(launch, stand_in):
  stand_in('docker')
  stand_in('nvidia-smi', 'echo "0, 4000, 90"')
  done = launch('docker', 'nets/lenet_at_digits_run.py -n=2')
  assert done.returncode == 2
  assert '-n asks for 2 processes, but this machine has 1 GPUs.' in done.stderr


def test_docker_that_cannot_build(launch, stand_in):
  stand_in('docker', 'exit 3')
  done = launch('docker', 'nets/lenet_at_digits_run.py')
  assert done.returncode == 2
  assert 'the image could not be built (docker ended with code 3).' in done.stderr


def test_without_horovod_several_processes_fail_with_advice(launch, environment):
  done = launch('local', 'nets/lenet_at_digits_run.py -n=2', PATH='/usr/bin:/bin', **environment)
  assert done.returncode == 1
  assert 'run ./scripts/install_horovod.sh.' in done.stderr


def test_a_horovod_that_cannot_be_built_stops_at_the_first_failure(stand_in, environment, tmp_path):
  """With stand-ins for all that would fetch or build."""
  python = stand_in(
    'python',
    f'case "$*" in -) echo key ;; *"pip download"*) [ -f "{tmp_path}/reachable" ] ;; esac',
  )
  stand_in('g++')
  stand_in('cmake', 'echo cmake version 3.30.1')
  stand_in('apt-get', 'exit 1')
  cache = tmp_path / 'cache' / 'secateurs' / 'horovod'
  variables = {
    'PATH': f'{tmp_path / "bin"}:/usr/bin:/bin',
    'SECATEURS_PYTHON': sys.executable,
    'XDG_CACHE_HOME': str(tmp_path / 'cache'),
    'HOROVOD_GPU': '0',
  }

  def install():
    done = subprocess.run(
      [str(ROOT / 'scripts' / 'install_horovod.sh')],
      capture_output=True,
      text=True,
      check=False,
      env=os.environ | environment | variables,
    )
    assert done.returncode == 1
    assert not (cache / 'key-cpu' / 'check.log').exists()
    assert 'pip wheel' not in python.read_text()
    return done.stderr

  if not Path('/usr/include/farmhash.h').exists():
    assert 'libfarmhash-dev could not be downloaded' in install()
    assert 'pip download' not in python.read_text()
  for header in ('highwayhash/sip_hash.h', 'farmhash.h'):
    path = cache / 'headers' / 'usr' / 'include' / header
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('')
  assert f'Horovod could not be built; full log: {cache}/key-cpu/build.log.' in install()
  (tmp_path / 'reachable').touch()  # But what came is no archive.
  assert 'Horovod could not be built' in install()


def test_the_ranks_output_reads_as_one_and_the_first_failure_is_reported(
  launch, stand_in, environment
):
  log = stand_in(
    'horovodrun',
    """echo "[0]<stdout>:train  step 1/2"
echo "[1]<stderr>:Error: no data here." >&2
echo "[0]<stderr>:I0000 00:00 port.cc:153] oneDNN chatter" >&2
echo "Process 1 exit with status code 1."
echo "Process 0 exit with status code 143."
echo "Traceback (most recent call last):" >&2
exit 1""",
  )
  done = launch('local', 'nets/lenet_at_digits_run.py -n=2', **environment)
  assert done.stdout == 'train  step 1/2\n'
  assert done.stderr == (
    '[rank 1] Error: no data here.\n'
    'Error: process 1 of the job ended with code 1, which ended the job.\n'
  )
  assert done.returncode == 1
  assert log.read_text().startswith('--gloo -np 2 -H localhost:2 ')
  stand_in('horovodrun', 'echo "Process 1 exit with status code 137."; exit 1')
  done = launch('local', 'nets/lenet_at_digits_run.py -n=2', **environment)
  assert 'process 1 of the job was killed by signal 9' in done.stderr
  assert done.returncode == 137


def test_horovodruns_own_failure_is_shown(launch, stand_in, environment):
  stand_in('horovodrun', 'echo "SSH was not successful for the following hosts: b" >&2; exit 1')
  done = launch('seven', 'nets/lenet_at_digits_run.py -n=2 --hosts a:1,b:1', **environment)
  assert done.returncode == 1
  assert 'SSH was not successful for the following hosts: b' in done.stderr


def test_hosts_come_from_the_flag_or_from_path_conf(launch, tmp_path):
  (tmp_path / 'path.conf').write_text(
    'hosts = c:1,d:1\ndata_dir_seven_digits=/shared/digits\ndata_dir_local_digits=/mine\n'
  )
  base = 'nets/lenet_at_digits_run.py -n=2 --print_command'
  assert ' -H c:1,d:1 ' in launch('seven', base).stdout
  named = launch('seven', base + ' --hosts a:2 --ssh_port 2222 --data_dir_local /other').stdout
  assert ' -H a:2 -p 2222 ' in named
  assert '/shared/digits' not in named
  assert launch('seven', base).stdout.rstrip().endswith('--data_dir_local /shared/digits')
  assert (
    '--data_dir_local' not in launch('local', base).stdout
  )  # The program reads path.conf itself.


def test_an_mpijob_says_what_horovodrun_needs(launch, tmp_path):
  yaml = pytest.importorskip(
    'yaml', reason='PyYAML comes with Horovod: ./scripts/install_horovod.sh'
  )
  (tmp_path / 'path.conf').write_text('data_dir_local_digits = /data\n')
  words = 'nets/lenet_at_digits_run.py -n=8 --mpijob --slots=4 --image me/secateurs:1 --seed 3'
  done = launch('seven', words)
  job = yaml.safe_load(done.stdout)
  assert (job['apiVersion'], job['kind']) == ('kubeflow.org/v2beta1', 'MPIJob')
  assert job['spec']['slotsPerWorker'] == 4
  launcher, worker = (job['spec']['mpiReplicaSpecs'][kind] for kind in ('Launcher', 'Worker'))
  assert (launcher['replicas'], worker['replicas']) == (1, 2)
  (container,) = launcher['template']['spec']['containers']
  assert container['image'] == 'me/secateurs:1'
  command = ' '.join(container['command'])
  assert command.startswith('horovodrun --gloo -np 8 --hostfile /etc/mpi/hostfile ')
  assert command.endswith(
    ' python /opt/secateurs/nets/lenet_at_digits_run.py --seed 3 --data_dir_local /data'
  )
  (container,) = worker['template']['spec']['containers']
  assert container['resources']['limits'] == {'nvidia.com/gpu': 4}
  assert {m['mountPath'] for m in container['volumeMounts']} == {str(tmp_path), '/data'}
