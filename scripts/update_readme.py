"""Generates the README's flag tables from the config classes.

Usage: python scripts/update_readme.py [--check]

With --check nothing is written, and the exit code is 1 if the tables are out of date.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from pathlib import Path

README = Path(__file__).parents[1] / 'README.md'
BEGIN, END = '<!-- flags: begin -->', '<!-- flags: end -->'


def flag_tables() -> str:
  """One Markdown table per config class."""
  from secateurs.learners import learners
  from secateurs.learners.run.configs import (
    DistillConfig,
    FullPrecConfig,
    QuantConfig,
    RunConfig,
    TrainConfig,
  )
  from secateurs.nets.datasets.ilsvrc12 import Ilsvrc12Config
  from secateurs.nets.datasets.image_folder import ImageFolderConfig
  from secateurs.nets.datasets.images import DataConfig
  from secateurs.nets.mobilenet import MobileNetConfig
  from secateurs.nets.resnet import ImagenetResNetConfig, ResNetConfig
  from secateurs.nets.saved_model import SavedModelConfig
  from secateurs.nets.vgg import VggConfig

  classes = [RunConfig, FullPrecConfig, TrainConfig, DistillConfig, QuantConfig, DataConfig]
  classes += [ResNetConfig, ImagenetResNetConfig, MobileNetConfig, VggConfig]
  classes += [ImageFolderConfig, Ilsvrc12Config]
  classes += [SavedModelConfig]
  classes += [learner.Config for learner in learners().values()]
  sections, seen = [], set()
  for config_class in dict.fromkeys(classes):
    rows = []
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
      name = config_class.flag_name(field)
      # The same name can have another meaning elsewhere, such as --resnet_size on another data set.
      flag = (name, field.default, field.metadata['help'])
      if flag in seen:
        continue
      seen.add(flag)
      kinds = typing.get_args(hints[field.name]) or (hints[field.name],)
      default = '' if field.default is None else f'`{field.default}`'
      rows.append(f'| `--{name}` | {kinds[0].__name__} | {default} | {field.metadata["help"]} |')
    heading = config_class.__doc__.splitlines()[0].rstrip('.')
    table = ['| flag | type | default | meaning |', '|---|---|---|---|', *rows]
    sections.append('\n'.join([f'**{heading}**', '', *table]))
  return '\n\n'.join(sections)


def updated(text: str) -> str:
  """Returns the README with new tables between its markers."""
  head, _, rest = text.partition(BEGIN)
  _, _, tail = rest.partition(END)
  return f'{head}{BEGIN}\n{flag_tables()}\n{END}{tail}'


def main() -> int:
  """Writes or checks the README; returns the exit code."""
  before = README.read_text(encoding='utf-8')
  after = updated(before)
  if '--check' in sys.argv[1:]:
    return int(before != after)
  README.write_text(after, encoding='utf-8')
  return 0


if __name__ == '__main__':
  from secateurs.utils.quiet import quiet_tensorflow

  quiet_tensorflow()
  sys.exit(main())
