"""Where a run keeps its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from secateurs.learners.run.settings import Settings
from secateurs.utils.config import Default
from secateurs.utils.deploy.files.export_files import ENDINGS
from secateurs.utils.errors import UserError
from secateurs.utils.files import remove, require_writable


@dataclasses.dataclass(frozen=True)
class RunFiles:
  """The paths of a run.

  Attributes:
    settings: names them.
    is_original: whether the network is its own original, as where nothing is compressed.
  """

  settings: Settings
  is_original: bool = False

  @property
  def save_path(self) -> Path:
    """Prefix of the learner's checkpoints."""
    return self.settings.path(self.settings.config, 'save_path')

  @property
  def save_path_eval(self) -> Path:
    """Prefix of the exported files."""
    return self.settings.path(self.settings.config, 'save_path_eval')

  @property
  def log_dir(self) -> Path:
    """Folder of the report."""
    return self.settings.path(self.settings.run, 'log_dir')

  @property
  def original_prefix(self) -> Path:
    """Prefix of the original network's exported files."""
    return self.save_path_eval if self.is_original else self.save_path.with_name('original')

  @property
  def original_keras(self) -> Path:
    """The original network."""
    return with_ending(self.original_prefix, '.keras')

  @property
  def trials(self) -> Path:
    """The trials of a search, one JSON object a line."""
    return self.save_path.with_name('search.jsonl')

  @property
  def plan(self) -> Path:
    """What was cut."""
    return self.log_dir / 'plan.json'

  def exported(self) -> dict[str, Path]:
    """The exported files that there are, by format."""
    paths = {kind: with_ending(self.save_path_eval, ending) for kind, ending in ENDINGS.items()}
    return {kind: path for kind, path in paths.items() if path.exists()}

  def remove_others(self, kinds: Collection[str]) -> None:
    """Removes exported files of other formats, which an earlier export of other weights has left."""
    for kind, path in self.exported().items():
      if kind not in kinds:
        remove(path)

  @property
  def locked(self) -> dict[Path, str]:
    """Folders that one command at a time may work in, with the flag that chooses another one.

    That of the exported files is none of them: runs with other names may share it.
    """
    named = ((self.settings.config, 'save_path'), (self.settings.run, 'log_dir'))
    flags = [
      '--run_dir' if isinstance(getattr(config, field), Default) else f'--{config.prefix}{field}'
      for config, field in named
    ]
    return dict(zip((self.save_path.parent, self.log_dir), flags))

  def require_writable(self) -> None:
    """Checks that all folders can be written.

    Raises:
      UserError: one cannot.
    """
    for folder in (self.log_dir, self.save_path.parent, self.save_path_eval.parent):
      require_writable(folder)

  def nothing_exported(self) -> UserError:
    """The error of a mode that finds no exported model."""
    return UserError(
      f'{self.save_path_eval}.keras does not exist, so there is nothing to work on: run the same '
      'command with --exec_mode train first.'
    )


def with_ending(prefix: Path, ending: str) -> Path:
  """A prefix with an ending after its last letter, whatever dots it has."""
  return prefix.with_name(prefix.name + ending)
