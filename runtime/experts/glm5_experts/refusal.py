"""Why a batch has no result."""

from glm5.v1 import expert_service_pb2 as pb


class Refusal(Exception):
    """A batch is answered with a failure.

    Args:
        error: the wire's kind.
        message: what, where, why, cure.
    """

    def __init__(self, error: "pb.BatchError.ValueType", message: str) -> None:
        super().__init__(message)
        self.error = error
