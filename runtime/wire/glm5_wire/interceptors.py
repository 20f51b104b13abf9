"""The server interceptor: errors become statuses in one place, traces go on, calls are counted."""

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from glm5_wire.errors import Internal, ServiceError, to_status
from glm5_wire.metrics import counter
from glm5_wire.tracing import continued_span

log = logging.getLogger(__name__)

CALLS = counter("glm5_rpc_calls_total", "gRPC calls that ended, by method and status.", ["method", "code"])

_FOR_CLIENTS = "/glm5.v1.InferenceService/"
"""Only what clients call begins a trace; streams between processes live for hours and belong to nobody's request."""

Behaviour = Callable[[Any, Any], Any]
Finish = Callable[[Any, Any], Awaitable[Any]]


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server."""

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of `details` with errors, traces and counting around it."""
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        arity, make = _arity(handler)
        wrapped = _guarded(getattr(handler, arity), details.method, handler.response_streaming)
        return make(wrapped, handler.request_deserializer, handler.response_serializer)


def _arity(handler: "grpc.RpcMethodHandler[Any, Any]") -> tuple[str, Any]:
    """Return the attribute that holds the handler's behaviour and the constructor of such handlers."""
    name = ("stream" if handler.request_streaming else "unary") + (
        "_stream" if handler.response_streaming else "_unary"
    )
    return name, getattr(grpc, f"{name}_rpc_method_handler")


def _guarded(behaviour: Behaviour, method: str, streaming: bool) -> Finish:
    """Return `behaviour` with errors turned into statuses."""
    run = _written(behaviour) if streaming and inspect.isasyncgenfunction(behaviour) else behaviour

    async def guarded(request: Any, context: Any) -> Any:
        code = grpc.StatusCode.CANCELLED
        try:
            with continued_span(method, context.invocation_metadata(), begins=method.startswith(_FOR_CLIENTS)):
                result = await run(request, context)
            code = grpc.StatusCode.OK
            return result
        except grpc.aio.AbortError:
            code = grpc.StatusCode.UNKNOWN
            raise
        except ServiceError as error:
            code = error.code
            await context.abort(*to_status(error))
        except Exception as error:
            log.exception("unexpected error method=%s", method)
            code = grpc.StatusCode.INTERNAL
            bug = Internal("unexpected error", method, f"{type(error).__name__}: {error}", "see the log of the server")
            await context.abort(*to_status(bug))
        finally:
            CALLS.labels(method, code.name).inc()

    return guarded


def _written(behaviour: Behaviour) -> Finish:
    """Return an async generator behaviour as a coroutine that writes its messages."""

    async def run(request: Any, context: Any) -> None:
        messages = behaviour(request, context)
        try:
            async for message in messages:
                await context.write(message)
        finally:
            await messages.aclose()

    return run
