"""The one exception type for mistakes that a user can fix."""

import re


class UserError(ValueError):
  """A mistake in what the user gave: data, paths, flags, models.

  The message is one sentence that names the thing, what was expected, what came, and the
  remedy. The command line prints it without a traceback and exits with a non-zero code.
  """


class UsageError(UserError):
  """A command line that cannot be read: the program exits with 2."""


_MARKS = re.compile(r'\{\{.*?\}\}\s*|\s*\[Op:\w+\](\s*name:)?')
"""What TensorFlow puts around a text: node and operation, which say nothing to a user."""


def first_line(error: BaseException) -> str:
  """The start of an error's text, to be put into a sentence."""
  lines = _MARKS.sub('', str(error)).strip().splitlines()
  return lines[0][:200].rstrip('.') if lines else type(error).__name__


def told_in(error: BaseException) -> UserError | None:
  """The UserError that an exception carries in its text, if any.

  TensorFlow passes what Python code inside an input pipeline raises on as its own error.
  """
  match = re.search(rf'\b{UserError.__name__}: (.+)', str(error))
  return UserError(match[1]) if match else None


def sentence_of(error: Exception) -> str:
  """What the command line says about an error that nobody has explained."""
  told = told_in(error)
  if told is not None:
    return str(told)
  if isinstance(error, OSError) and error.strerror:
    return (
      f'{error.filename or "A file"} could not be read or written ({error.strerror}): make room or '
      'give another one, and run the same command again to resume.'
    )
  lines = str(error).strip().splitlines() or ['no reason given']
  return (
    f'{type(error).__name__}: {lines[0]} (this is not a mistake of yours that the program knows; '
    '--debug shows where it happened).'
  )
