"""InferenceService: the same API over gRPC, with the same bodies as Struct."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from google.protobuf.struct_pb2 import Struct

from glm5.v1 import inference_service_pb2 as pb
from glm5.v1 import inference_service_pb2_grpc as rpc
from glm5_gateway.api import Api, Call
from glm5_gateway.errors import invalid
from glm5_gateway.keys import Keys
from glm5_gateway.pump import Pump
from glm5_gateway.structs import as_dict, as_struct
from glm5_wire.errors import ServiceError


class InferenceServicer(rpc.InferenceServiceServicer):
    """Serves clients.

    Args:
        api: does the work.
        keys: who may enter, by the metadata `authorization`.
        leaving: set when running calls have to end.
    """

    def __init__(self, api: Api, keys: Keys, leaving: asyncio.Event) -> None:
        self._api, self._keys, self._leaving = api, keys, leaving

    async def Chat(self, request: pb.ChatRequest, context: Any) -> pb.ChatResponse:  # noqa: N802
        """Answer a conversation."""
        return pb.ChatResponse(body=await self._whole(self._api.chat, request.body, context))

    async def ChatStream(  # noqa: N802
        self, request: pb.ChatStreamRequest, context: Any
    ) -> AsyncGenerator[pb.ChatStreamResponse, None]:
        """Answer a conversation in chunks."""
        async for chunk in self._chunks(self._api.chat, request.body, context):
            yield pb.ChatStreamResponse(chunk=chunk)

    async def Complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteResponse:  # noqa: N802
        """Go on with a prompt."""
        return pb.CompleteResponse(body=await self._whole(self._api.complete, request.body, context))

    async def CompleteStream(  # noqa: N802
        self, request: pb.CompleteStreamRequest, context: Any
    ) -> AsyncGenerator[pb.CompleteStreamResponse, None]:
        """Go on with a prompt in chunks."""
        async for chunk in self._chunks(self._api.complete, request.body, context):
            yield pb.CompleteStreamResponse(chunk=chunk)

    async def Tokenize(self, request: pb.TokenizeRequest, context: Any) -> pb.TokenizeResponse:  # noqa: N802
        """Turn a text or a conversation into token ids."""
        self._owner(context)
        answer = await self._api.tokenize(as_dict(request.body))
        return pb.TokenizeResponse(token_ids=answer["tokens"], max_model_len=answer["max_model_len"])

    async def Detokenize(self, request: pb.DetokenizeRequest, context: Any) -> pb.DetokenizeResponse:  # noqa: N802
        """Turn token ids into text."""
        self._owner(context)
        return pb.DetokenizeResponse(text=self._api.detokenize({"tokens": list(request.token_ids)})["prompt"])

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:  # noqa: N802
        """Name what is served."""
        self._owner(context)
        length = self._api.max_model_len
        return pb.ListModelsResponse(
            models=[pb.Model(id=name, max_model_len=length) for name in self._api.served.names]
        )

    def _owner(self, context: Any) -> str:
        """Return who asks."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return self._keys.owner(metadata.get("authorization", ""), _host(context.peer()))

    async def _whole(
        self, prepare: Callable[[dict[str, Any], str], Awaitable[Call]], body: Struct, context: Any
    ) -> Struct:
        """Return a whole answer."""
        raw = as_dict(body)
        if raw.get("stream"):
            raise invalid("stream", "`stream` must not be set", "this call answers once", "use the call for streams")
        call = await prepare(raw, self._owner(context))
        async with Pump.of_answer(call, self._leaving) as pump:
            item = await pump.next(None)
        if isinstance(item, ServiceError):
            raise item
        return as_struct(item)

    async def _chunks(
        self, prepare: Callable[[dict[str, Any], str], Awaitable[Call]], body: Struct, context: Any
    ) -> AsyncGenerator[Struct, None]:
        """Yield the chunks of a stream; its first error is the call's status."""
        call = await prepare(as_dict(body) | {"stream": True}, self._owner(context))
        async with Pump.of_objects(call, self._leaving) as pump:
            while (item := await pump.next(None)) is not Pump.END:
                if isinstance(item, ServiceError):
                    raise item
                yield as_struct(item)


def _host(peer: str) -> str:
    """Return the host in `ipv4:127.0.0.1:5000`, so that one client is one key."""
    return peer.partition(":")[2].rpartition(":")[0] or peer
