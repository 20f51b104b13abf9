"""The one taxonomy of errors that cross the wire, with their gRPC status and HTTP code. Every room raises these."""

import json
from typing import Any, ClassVar

import grpc
import grpc.aio

_METADATA_KEY = "glm5-error-bin"


class StartupError(Exception):
    """A role cannot start: one line on stderr that says what, where, why and the cure, then exit 2."""


class ServiceError(Exception):
    """An error that the caller should see.

    Args:
        what: what failed, in a few words.
        where: the thing it happened at (a peer, a field, a file); may be empty.
        why: the reason, with the values; may be empty.
        cure: what to do about it; may be empty.
        retry_after: seconds after which another try is promising, where known.
        param: the request field that is wrong, where there is one.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    http_status: ClassVar[int] = 500
    retriable: ClassVar[bool] = False

    def __init__(
        self,
        what: str,
        where: str = "",
        why: str = "",
        cure: str = "",
        *,
        retry_after: float | None = None,
        param: str | None = None,
    ) -> None:
        self.what, self.where, self.why, self.cure = what, where, why, cure
        self.retry_after, self.param = retry_after, param
        super().__init__(what, where, why, cure)

    def __str__(self) -> str:
        """Return all parts as one line: `what at where: why; cure`."""
        text = f"{self.what} at {self.where}" if self.where else self.what
        text = f"{text}: {self.why}" if self.why else text
        return f"{text}; {self.cure}" if self.cure else text


class InvalidRequest(ServiceError):
    """The request is wrong and stays wrong."""

    code, http_status = grpc.StatusCode.INVALID_ARGUMENT, 400


class TooLarge(ServiceError):
    """The request has more bytes than allowed."""

    code, http_status = grpc.StatusCode.INVALID_ARGUMENT, 413


class NotFound(ServiceError):
    """There is no such thing here."""

    code, http_status = grpc.StatusCode.NOT_FOUND, 404


class Unauthenticated(ServiceError):
    """The caller showed no valid key."""

    code, http_status = grpc.StatusCode.UNAUTHENTICATED, 401


class QueueFull(ServiceError):
    """A bounded queue is full; later there is room again."""

    code, http_status, retriable = grpc.StatusCode.RESOURCE_EXHAUSTED, 429, True


class Unavailable(ServiceError):
    """A peer is dead, silent or not ready; another try, perhaps elsewhere, may work."""

    code, http_status, retriable = grpc.StatusCode.UNAVAILABLE, 503, True


class Draining(ServiceError):
    """The process is leaving and takes no new work; go elsewhere."""

    code, http_status, retriable = grpc.StatusCode.UNAVAILABLE, 503, True


class Incompatible(ServiceError):
    """The two ends run different models, weights or wire versions; another peer may fit."""

    code, http_status, retriable = grpc.StatusCode.FAILED_PRECONDITION, 503, True


class TimedOut(ServiceError):
    """A deadline passed."""

    code, http_status, retriable = grpc.StatusCode.DEADLINE_EXCEEDED, 504, True


class Internal(ServiceError):
    """A bug of ours."""


_LEAVES: tuple[type[ServiceError], ...] = (
    InvalidRequest,
    TooLarge,
    NotFound,
    Unauthenticated,
    QueueFull,
    Unavailable,
    Draining,
    Incompatible,
    TimedOut,
    Internal,
)
_BY_NAME = {leaf.__name__: leaf for leaf in _LEAVES}
_BY_CODE: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: QueueFull,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,  # cancelled by the server: it is going away
    grpc.StatusCode.ABORTED: Unavailable,
    # Our servers' own errors carry their kind; these are gRPC's words for a connection that broke oddly ("Stream
    # removed", RST_STREAM).
    grpc.StatusCode.UNKNOWN: Unavailable,
    grpc.StatusCode.INTERNAL: Unavailable,
    grpc.StatusCode.FAILED_PRECONDITION: Incompatible,
    grpc.StatusCode.UNIMPLEMENTED: Incompatible,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}


def to_status(error: ServiceError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Return status code, message and trailing metadata that carry `error` to the caller."""
    parts = {
        "kind": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "why": error.why,
        "cure": error.cure,
        "retry_after": error.retry_after,
        "param": error.param,
    }
    return error.code, str(error), ((_METADATA_KEY, json.dumps(parts).encode()),)


def from_rpc_error(error: grpc.aio.AioRpcError, where: str = "") -> ServiceError:
    """Return the error that the server raised, or the leaf that fits the status where gRPC itself failed the call.

    Args:
        error: what a call raised.
        where: the peer's name or address, for statuses that gRPC made.
    """
    for key, value in error.trailing_metadata() or ():
        if key == _METADATA_KEY:
            return _from_parts(json.loads(value))
    details = error.details() or ""
    leaf = _BY_CODE.get(error.code(), Internal)
    if "larger than max" in details:  # gRPC's own limit has the status of a full queue
        leaf = TooLarge
    cure = "try again or elsewhere" if leaf.retriable else ""
    return leaf(f"call failed with {error.code().name}", where, details, cure)


def _from_parts(parts: dict[str, Any]) -> ServiceError:
    """Return the error written by `to_status`; an unknown kind (a newer peer) becomes Internal."""
    leaf = _BY_NAME.get(parts["kind"], Internal)
    error = leaf(parts["what"], parts["where"], parts["why"], parts["cure"])
    error.retry_after, error.param = parts.get("retry_after"), parts.get("param")
    return error
