"""Batches and answers as messages, written and read by one call of the compiled library each.

The library knows the usual message only; what it does not take, protobuf reads, and can say what is wrong with it.
Where there is no library, protobuf does it all.
"""

import ctypes
import functools
import logging
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int64, c_void_p, sizeof, string_at
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from glm5_model.kernels.native.library import Weight, library

log = logging.getLogger(__name__)

SERVICE, METHOD = "glm5.v1.ExpertService", "Stream"
"""Whose messages these are: both ends open the stream by name, for its messages are bytes to them."""
OVERHEAD = 512
"""More than what a message has besides its tensors and its traceparent, in bytes."""


def _numbers(names: str) -> tuple[tuple[str, type[c_int64]], ...]:
    return tuple((name, c_int64) for name in names.split())


class Batch(Structure):
    """What `write_batch` needs; addresses must be good until it returns."""

    _fields_ = (
        *_numbers("sequence layer weight_version element_type reply_mode deadline_ms width row_bytes chosen"),
        *((name, c_void_p) for name in ("rows", "experts", "gates", "positions")),
        ("count", c_int64),
        ("trace", c_char_p),
        ("trace_bytes", c_int64),
    )


class Answer(Structure):
    """What `write_answer` needs."""

    _fields_ = (
        *_numbers("sequence element_type rows width row_bytes queue_us compute_us coalesced"),
        ("data", c_void_p),
    )


class Task(Structure):
    """One batch of a product: where its arrays lie in its message, and where its answer goes and is found."""

    _fields_ = (
        ("message", c_char_p),
        *_numbers("sequence rows count data offsets experts queue_us"),
        ("to", c_void_p),
        *_numbers("begin length"),
    )


class Order(Structure):
    """A batch that was read: numbers, and where in the message its arrays begin."""

    _fields_ = (
        *_numbers("sequence layer weight_version element_type reply_mode deadline_ms rows width count"),
        *_numbers("data offsets experts gates trace trace_bytes"),
    )


class Reply(Structure):
    """A result that was read: numbers, and where in the message its rows begin."""

    _fields_ = _numbers("sequence element_type rows width data")


class Piece(Structure):
    """Outputs of some pairs, in a message."""

    _fields_ = (("message", c_char_p), ("data", c_int64), ("positions", c_void_p), ("count", c_int64))


class Messages:
    """Writes and reads messages. One for each user: memory is used again. Not for several threads."""

    def __init__(self, compiled: ctypes.CDLL) -> None:
        self._compiled = compiled
        self._scratch = ctypes.create_string_buffer(1 << 16)
        self._address = ctypes.addressof(self._scratch)
        self._begin = c_int64()
        self._order, self._reply = Order(), Reply()

    def batch(self, batch: Batch, num_bytes: int) -> bytes:
        """Return a StreamRequest; `num_bytes` is at least what its arrays take."""
        self._reserve(num_bytes)
        return self._written(self._compiled.glm5_write_batch(byref(batch), self._address, byref(self._begin)))

    def answer(self, answer: Answer) -> bytes:
        """Return a StreamResponse."""
        self._reserve(answer.rows * answer.row_bytes)
        return self._written(self._compiled.glm5_write_answer(byref(answer), self._address, byref(self._begin)))

    def serve(
        self, experts: tuple[Weight, Weight, int, int, int], tasks: Sequence[Task], width: int
    ) -> tuple[list[bytes], float]:
        """Return a StreamResponse for each task of one layer, and how many seconds the product took.

        Args:
            experts: as `ExpertWeights.compiled` has them.
            tasks: batches of float32 rows.
            width: of a row.

        Raises:
            ValueError: an expert is not among `experts`.
        """
        rooms = [OVERHEAD + 4 * width * task.count for task in tasks]
        self._reserve(sum(rooms))
        together, to = (Task * len(tasks))(*tasks), self._address
        for task, room in zip(together, rooms, strict=True):
            task.to, to = to, to + room
        seconds: float = self._compiled.glm5_serve(*experts, together, len(tasks))
        if seconds < 0:
            raise ValueError("a batch names an expert that is not held; a bug of its check")
        return [string_at(task.to + task.begin, task.length) for task in together], seconds

    def fits(self, message: bytes, order: Order, held: npt.NDArray[np.bool_]) -> bool:
        """Return whether the pairs of a batch that was read fit its rows, and all their experts are `held`."""
        start = address(np.frombuffer(message, np.uint8))
        arrays = start + order.offsets, order.rows, start + order.experts, order.count
        return bool(self._compiled.glm5_fits(*arrays, address(held), len(held)))

    def read_batch(self, message: bytes) -> Order | None:
        """Return what an undamaged StreamRequest with a batch says, good until the next call; None for any other."""
        good = self._compiled.glm5_read_batch(message, len(message), byref(self._order))
        return self._order if good else None

    def read_answer(self, message: bytes) -> Reply | None:
        """Return what an undamaged StreamResponse with a result says, good until the next call; None for any other."""
        good = self._compiled.glm5_read_answer(message, len(message), byref(self._reply))
        return self._reply if good else None

    def combine(self, pieces: Sequence[Piece], gates: Tensor, out: Tensor) -> None:
        """Write to `out` [N, hidden] float32 the gated sum of pieces that together have every pair of gates [N, k]."""
        together = (Piece * len(pieces))(*pieces)
        rows, hidden = out.shape
        self._compiled.glm5_combine_pieces(
            together, len(pieces), gates.data_ptr(), rows, gates.shape[1], hidden, out.data_ptr()
        )

    def _reserve(self, num_bytes: int) -> None:
        if num_bytes + OVERHEAD > len(self._scratch):
            self._scratch = ctypes.create_string_buffer(2 * (num_bytes + OVERHEAD))
            self._address = ctypes.addressof(self._scratch)

    def _written(self, length: int) -> bytes:
        return string_at(self._address + self._begin.value, length)


@functools.cache
def _declared() -> ctypes.CDLL | None:
    compiled = library()
    if compiled is None:
        return None
    for name, types in _FUNCTIONS.items():
        function = getattr(compiled, name)
        function.argtypes, function.restype = types, c_int64
    compiled.glm5_combine_pieces.restype, compiled.glm5_serve.restype = None, c_double
    small = sum(map(sizeof, (Task, Answer, Reply, Piece)))
    if compiled.glm5_message_sizes() != sizeof(Batch) * 1000000 + sizeof(Order) * 1000 + small:
        log.warning("messages go through protobuf: the library was compiled from other sources; install the project")
        return None
    return compiled


_FUNCTIONS: dict[str, list[Any]] = {
    "glm5_message_sizes": [],
    "glm5_write_batch": [POINTER(Batch), c_void_p, POINTER(c_int64)],
    "glm5_write_answer": [POINTER(Answer), c_void_p, POINTER(c_int64)],
    "glm5_combine_pieces": [POINTER(Piece), c_int64, c_void_p, c_int64, c_int64, c_int64, c_void_p],
    "glm5_serve": [POINTER(Weight), POINTER(Weight), c_int64, c_void_p, c_int64, POINTER(Task), c_int64],
    "glm5_read_batch": [c_char_p, c_int64, POINTER(Order)],
    "glm5_read_answer": [c_char_p, c_int64, POINTER(Reply)],
}


def messages() -> Messages | None:
    """Return what writes and reads messages; None where there is no library."""
    compiled = _declared()
    return None if compiled is None else Messages(compiled)


def address(array: npt.NDArray[Any]) -> int:
    """Return where the elements of an array lie."""
    place: int = array.__array_interface__["data"][0]
    return place
