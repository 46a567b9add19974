"""run_seven.sh on two hosts, one of them behind a stand-in for ssh that runs its command here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SSH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"{log}"
host=''
while [ $# -gt 0 ]; do
  case "$1" in
    -o | -p | -i) shift 2 ;;
    -*) shift ;;
    *) [ -z "$host" ] || break; host="$1"; shift ;;
  esac
done
exec bash -c "$*"
"""


@pytest.mark.slow
@pytest.mark.usefixtures('horovodrun')
def test_a_job_on_two_hosts(tmp_path):
  venv = tmp_path / 'venv'
  (venv / 'bin').mkdir(parents=True)
  stamp = (
    'wanted="$1 $("$2" --version) $(cksum <"$1/setup.py") $(cksum <"$1/pyproject.toml")"; '
    'echo "$wanted" >"$3"'
  )
  words = ['bash', '-c', stamp, 'x', str(ROOT), sys.executable, str(venv / '.secateurs-installed')]
  subprocess.run(words, check=True)
  log = tmp_path / 'ssh.log'
  (venv / 'bin' / 'ssh').write_text(SSH.format(log=log))
  (venv / 'bin' / 'ssh').chmod(0o755)
  done = subprocess.run(
    [
      str(ROOT / 'scripts' / 'run_seven.sh'),
      str(ROOT / 'nets' / 'lenet_at_digits_run.py'),
      '-n=2',
      '--hosts',
      'localhost:1,hostb:1',
      *('--nb_epochs_rat', '0.01', '--bench_frames', '5', '--bench_threads', '1'),
      *('--run_dir', 'runs'),
    ],
    capture_output=True,
    text=True,
    check=False,
    cwd=tmp_path,
    timeout=600,
    env=os.environ
    | {
      'SECATEURS_VENV': str(venv),
      'SECATEURS_PYTHON': sys.executable,
      'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
    },
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert 'full-prec: lenet on digits' in done.stdout
  assert '[rank 1]' not in done.stdout + done.stderr
  calls = log.read_text().splitlines()
  assert all('hostb' in call for call in calls)
  assert any(f'cd {tmp_path}' in call and 'HOROVOD_RANK=1' in call for call in calls)
  report = json.loads((tmp_path / 'runs' / 'logs' / 'full-prec' / 'report.json').read_text())
  assert report['nb_workers'] == 2
