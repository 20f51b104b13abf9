"""The taxonomy: every error says what, where, why and cure, and comes out at the other end as it went in."""

import grpc
import grpc.aio
import pytest

from glm5_wire import errors
from glm5_wire.errors import QueueFull, ServiceError, from_rpc_error, to_status

LEAVES = [
    errors.InvalidRequest,
    errors.TooLarge,
    errors.NotFound,
    errors.Unauthenticated,
    errors.QueueFull,
    errors.Unavailable,
    errors.Draining,
    errors.Incompatible,
    errors.TimedOut,
    errors.Internal,
]


def rpc_error(
    code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, bytes], ...] = ()
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_an_error_crosses_the_wire_unchanged(leaf: type[ServiceError]) -> None:
    error = leaf("what", "where", "why", "cure", retry_after=1.5, param="top_p")
    code, message, trailing = to_status(error)
    back = from_rpc_error(rpc_error(code, message, trailing))
    assert type(back) is leaf
    assert (str(back), back.retry_after, back.param) == (str(error), 1.5, "top_p")


def test_the_text_names_what_where_why_and_cure() -> None:
    assert str(QueueFull("request refused", "decode-0", "16 wait", "try later")) == (
        "request refused at decode-0: 16 wait; try later"
    )
    assert str(QueueFull("request refused")) == "request refused"


def test_a_newer_peers_unknown_error_is_internal_and_keeps_its_text() -> None:
    error = errors.Unavailable("what", "where")
    code, message, [(key, value)] = to_status(error)
    back = from_rpc_error(rpc_error(code, message, ((key, value.replace(b"Unavailable", b"FromTheFuture")),)))
    assert type(back) is errors.Internal
    assert str(back) == "what at where"


@pytest.mark.parametrize(
    ("code", "details", "leaf"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.TimedOut),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 8)", errors.TooLarge),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", errors.Incompatible),
        (grpc.StatusCode.DATA_LOSS, "?", errors.Internal),
    ],
)
def test_a_status_of_grpc_itself_becomes_the_leaf_that_fits(
    code: grpc.StatusCode, details: str, leaf: type[ServiceError]
) -> None:
    back = from_rpc_error(rpc_error(code, details), "shard-1")
    assert type(back) is leaf
    assert "shard-1" in str(back)
    assert details in str(back)
