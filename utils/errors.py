"""The one exception type for mistakes that a user can fix."""

import re


class UserError(ValueError):
  """A mistake in what the user gave: data, paths, flags, models.

  The message is one sentence that names the thing, what was expected, what came, and the
  remedy. The command line prints it without a traceback and exits with a non-zero code.
  """


def told_in(error: BaseException) -> UserError | None:
  """The UserError that an exception carries in its text, if any.

  TensorFlow passes what Python code inside an input pipeline raises on as its own error.
  """
  match = re.search(rf'\b{UserError.__name__}: (.+)', str(error))
  return UserError(match[1]) if match else None
