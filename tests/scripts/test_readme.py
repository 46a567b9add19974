import importlib.util
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]


def update_readme():
  spec = importlib.util.spec_from_file_location('update_readme', ROOT / 'scripts/update_readme.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_flag_tables_are_those_of_the_code():
  module = update_readme()
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  assert module.BEGIN in text
  assert module.updated(text) == text, 'run python scripts/update_readme.py'


def test_one_name_that_means_something_else_elsewhere_has_a_row_of_its_own():
  section = update_readme().flag_tables().partition('**Your model, and how')[2].partition('**')[2]
  section = section.partition('\n**')[0]
  for flag in ('preprocess', 'image_size', 'nb_corrupt_max'):
    assert f'`--{flag}`' in section


def test_every_file_that_the_readme_names_exists():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  links = [link for link in re.findall(r'\]\(([^)#]+)', text) if not link.startswith('http')]
  assert links
  for link in links:
    assert (ROOT / link).exists(), link


def test_every_command_of_the_readme_names_a_script_that_exists():
  text = (ROOT / 'README.md').read_text(encoding='utf-8').replace('\\\n', ' ')
  commands = re.findall(r'^\s*(\./scripts/\S+.*)$', text, re.MULTILINE)
  assert len(commands) >= 3
  for command in commands:
    words = shlex.split(command, comments=True)
    assert (ROOT / words[0]).is_file(), command
    if 'run_local' in words[0]:
      assert (ROOT / words[1]).is_file(), command
