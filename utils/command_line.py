"""What all command lines have in common: exit codes, and one sentence for each mistake.

A command ends with 0 if it did its work, 1 after a mistake that one sentence names, 2 where the command
line itself cannot be read, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from secateurs.utils.errors import UsageError, UserError

USER_ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
  """Says in one sentence what is wrong with a command line."""

  def error(self, message: str) -> NoReturn:
    """Ends the process."""
    text = one_sentence(message).removesuffix('.')
    self.exit(USAGE_ERROR, f'Error: {text}: see {self.prog} --help.\n')

  def print_help(self, file: Any = None) -> None:
    """As of argparse, which would ignore that it cannot be written."""
    print(self.format_help(), end='', file=file)


def exit_code(action: Callable[[], int | None], interrupted: str = 'Interrupted.') -> int:
  """Does something, prints what went wrong, and returns the process's exit code.

  Args:
    action: gives the exit code, or None for 0.
    interrupted: what is printed after Ctrl-C.
  """
  try:
    try:
      code = action() or 0
    except SystemExit as left:  # argparse, after its help or a mistake.
      code = left.code if isinstance(left.code, int) else USER_ERROR
    sys.stdout.flush()
    return code
  except KeyboardInterrupt:
    complain(interrupted)
    return INTERRUPTED
  except UsageError as error:
    complain(str(error))
    return USAGE_ERROR
  except UserError as error:
    complain(str(error))
    return USER_ERROR
  except OSError as error:
    problem = failed_output(error)
    if problem is None:
      raise
    if not isinstance(error, BrokenPipeError):  # Whoever closed it, such as `head`, has enough.
      complain(problem)
    return USER_ERROR


def one_sentence(text: str) -> str:
  """A text of several lines on one, with an end."""
  text = ' '.join(text.split())
  return text if text.endswith(('.', '?')) else f'{text}.'


def complain(text: str) -> None:
  """Prints a mistake."""
  print(f'Error: {text}', file=sys.stderr, flush=True)


def output_problem(text: str = '') -> str | None:
  """Prints a text, and all that waits to be written.

  If it cannot be written, what waits is dropped: Python would fail again at its end.

  Returns:
    Why it cannot be written, as a sentence; None where it was.
  """
  try:
    print(text, end='', flush=True)
  except OSError as error:
    with contextlib.suppress(OSError, ValueError):  # It may be no file.
      null = os.open(os.devnull, os.O_WRONLY)
      os.dup2(null, sys.stdout.fileno())
      os.close(null)
    return (
      f'What the command prints cannot be written ({error.strerror}): send it to a terminal, or to a '
      'file on a disk with free space.'
    )
  return None


def failed_output(error: BaseException) -> str | None:
  """The sentence of `output_problem` where an error came from printing, else None."""
  # Such an error names no file. Whether it is the output that fails shows when it fails again.
  named = not isinstance(error, OSError) or error.filename is not None
  return None if named else output_problem('\n')
