"""A connection that has become old: its client makes a new one, and no call is lost."""

import asyncio
from typing import Any

import grpc

from glm5_wire.server import RpcServer

CALLS = 300


class Echo(grpc.GenericRpcHandler):
    """Answers each call, after a while, with the address from which it came."""

    def service_name(self) -> str:
        return "test.Echo"

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._peer)

    async def _peer(self, request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.01)
        return str(context.peer()).encode()


async def test_a_client_that_keeps_its_channel_moves_to_another_connection_and_loses_no_call() -> None:
    server = RpcServer("127.0.0.1", 0, detection_seconds=3.0, age_seconds=0.3)
    server.add(lambda one: one.add_generic_rpc_handlers((Echo(),)))
    address = await server.start()
    try:
        async with grpc.aio.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
            call = channel.unary_unary("/test.Echo/Peer")
            peers = [await call(b"") for _ in range(CALLS)]
    finally:
        await server.stop(1.0)

    assert len(set(peers)) >= 3
