"""What can go wrong between the operator and the API server."""


class OperatorError(Exception):
    """Root of the operator's errors."""


class SettingsError(OperatorError):
    """A setting is wrong; the message names it and the cure."""


class Unreachable(OperatorError):
    """The API server does not answer, or asks to be left alone for a while; the same call later may work."""


class Rejected(OperatorError):
    """The API server refused a request; the same request will be refused again until something changes."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message or reason)
        self.status = status
        self.reason = reason


class NotLeader(OperatorError):
    """The lease is not ours (any more): nothing may be written."""
