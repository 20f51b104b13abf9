"""What a user of the command line did that cannot work; the message says what, where, why and how to mend it."""


class CliError(Exception):
    """Shown as one line; exit code 2."""
