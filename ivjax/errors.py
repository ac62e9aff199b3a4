"""The one exception for what a user can mend: the command line prints its sentence and no traceback."""


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and how to mend it, in one sentence."""
