"""Which attempt of a request is the newest here: the gateway may reach a worker again before its old stream broke."""

import contextlib
from collections.abc import Iterator

from glm5.v1 import decode_service_pb2 as pb
from glm5_engine.stream import Stream
from glm5_wire.errors import Draining, Unavailable

Key = tuple[str, str, int]


class Attempts:
    """The open attempts of a worker. Belongs to one event loop."""

    def __init__(self) -> None:
        self._open: dict[Key, tuple[int, Stream]] = {}

    @contextlib.contextmanager
    def opened(self, message: pb.GenerateRequest, stream: Stream) -> Iterator[None]:
        """Hold the place of a request for the `with` block; a newer attempt closes the older one.

        First attempts are never compared: clients may choose equal request ids.

        Raises:
            Unavailable: a newer attempt is here already.
        """
        key = (message.request_id, message.fairness_key, hash(tuple(message.prompt_token_ids)))
        known = self._open.get(key)
        if known is not None and message.attempt < known[0]:
            why = f"attempt {message.attempt} came after attempt {known[0]}"
            raise Unavailable("attempt dropped", f"request {message.request_id}", why, "follow the newer one")
        if known is not None and message.attempt > known[0]:
            known[1].close(Draining("attempt dropped", f"request {message.request_id}", "a newer one is here"))
        self._open[key] = mine = (message.attempt, stream)
        try:
            yield
        finally:
            if self._open.get(key) is mine:
                del self._open[key]
