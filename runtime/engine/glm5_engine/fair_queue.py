"""Requests that wait, one turn per key: a client with a thousand of them delays nobody else's first."""

from collections import OrderedDict, deque
from collections.abc import Iterator

from glm5_engine.request import Request


class FairQueue:
    """First in, first out within a key; round-robin over keys."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Request]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Request]:
        return (request for queue in self._queues.values() for request in queue)

    def push(self, request: Request) -> None:
        """Put `request` at the end of its key's queue; a new key gets its turn after all others."""
        self._queues.setdefault(request.fairness_key, deque()).append(request)
        self._length += 1

    def peek(self) -> Request | None:
        """Return the request whose turn it is, or None."""
        return next(iter(self._queues.values()))[0] if self._queues else None

    def pop(self) -> Request:
        """Remove and return the request whose turn it is; its key then waits for all others.

        Raises:
            IndexError: nothing waits.
        """
        if not self._queues:
            raise IndexError("pop from an empty queue")
        key, queue = self._queues.popitem(last=False)
        request = queue.popleft()
        if queue:
            self._queues[key] = queue
        self._length -= 1
        return request

    def remove(self, request: Request) -> bool:
        """Remove `request` and return whether it was here."""
        queue = self._queues.get(request.fairness_key)
        if queue is None or request not in queue:
            return False
        queue.remove(request)
        if not queue:
            del self._queues[request.fairness_key]
        self._length -= 1
        return True
