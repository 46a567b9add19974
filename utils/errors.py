"""The one exception type for mistakes that a user can mend."""


class UserError(ValueError):
  """A mistake in what the user gave: data, paths, flags, models.

  The message is one sentence that names the thing, what was expected, what came, and the
  remedy. The command line prints it without a traceback and exits with a non-zero code.
  """
