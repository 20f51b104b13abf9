"""The header of a safetensors file: eight bytes of length, that much JSON, then the tensors' bytes."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glm5_model.errors import CheckpointError

MAX_HEADER_BYTES = 100 << 20
"""The format's own limit."""

TYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
}
"""Element types that a weight may have."""

_CURE = "download the file again"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies and what it is."""

    file: str
    """Name inside the checkpoint folder."""
    type_name: str
    """The format's name of the element type, for example "BF16"."""
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the start of the file."""
    end: int
    """One past the last byte."""

    @property
    def num_bytes(self) -> int:
        """Return the bytes that the tensor takes in the file."""
        return self.end - self.begin


def read_header(folder: Path, file: str) -> dict[str, TensorInfo]:
    """Return the tensors of a safetensors file by name, without looking at their bytes.

    Raises:
        CheckpointError: the file is missing, its header is damaged, or its tensors do not lie as the format wants.
    """
    size, data_start, entries = _read(folder, file)
    tensors = {name: _info(file, name, entry, data_start) for name, entry in entries.items()}
    for fault in layout_faults(file, tensors, data_start, size):
        raise fault
    return tensors


def scan_header(folder: Path, file: str) -> tuple[dict[str, TensorInfo], list[CheckpointError]]:
    """Return the well-formed tensors of a safetensors file, and everything that is wrong with its header."""
    try:
        size, data_start, entries = _read(folder, file)
    except CheckpointError as error:
        return {}, [error]
    tensors, faults = {}, []
    for name, entry in entries.items():
        try:
            tensors[name] = _info(file, name, entry, data_start)
        except CheckpointError as error:
            faults.append(error)
    # Where an entry is unreadable the ranges of the others cannot be without gaps.
    return tensors, faults or list(layout_faults(file, tensors, data_start, size))


def layout_faults(file: str, tensors: dict[str, TensorInfo], data_start: int, size: int) -> Iterator[CheckpointError]:
    """Yield what is wrong with where the tensors of a file lie: they must fill it without gap or overlap.

    Args:
        file: its name.
        tensors: by name.
        data_start: first byte after the header.
        size: bytes of the file.
    """
    reached, before = data_start, "the header"
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        dtype = TYPES.get(info.type_name)
        wanted = math.prod(info.shape) * dtype.itemsize if dtype else info.num_bytes
        if info.begin < reached:
            yield CheckpointError(file, name, f"its bytes overlap those of {before}", _CURE, "ranges_overlap")
        elif info.begin > reached:
            unused = info.begin - reached
            yield CheckpointError(file, name, f"{unused} unused bytes lie before it", _CURE, "ranges_gap")
        if info.num_bytes != wanted:
            message = f"takes {info.num_bytes} bytes, its shape wants {wanted}"
            yield CheckpointError(file, name, message, _CURE, "wrong_size")
        if info.end > size:
            message = f"the file ends {info.end - size} bytes before the tensor does"
            yield CheckpointError(file, name, message, _CURE, "file_truncated")
        reached, before = max(reached, info.end), name
    if reached < size:
        yield CheckpointError(file, "", f"{size - reached} bytes belong to no tensor", _CURE, "trailing_bytes")


def _read(folder: Path, file: str) -> tuple[int, int, dict[str, Any]]:
    """Return a file's size, where its tensors' bytes begin, and its header's entries."""
    try:
        with (folder / file).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size < 8:
                raise CheckpointError(file, "", f"is only {size} bytes long", _CURE, "file_empty")
            length = int.from_bytes(stream.read(8), "little")
            if length > min(size - 8, MAX_HEADER_BYTES):
                message = f"the header says {length} bytes, the file has {size}"
                raise CheckpointError(file, "", message, _CURE, "header_length")
            raw = stream.read(length)
    except FileNotFoundError:
        raise CheckpointError(file, "", "is missing", "download the file", "file_missing") from None
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise CheckpointError(file, "", message, "check its permissions", "file_unreadable") from error
    return size, 8 + length, _parse(file, raw)


def _parse(file: str, raw: bytes) -> dict[str, Any]:
    """Return the entries of a header's JSON object."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise CheckpointError(file, twice, "is twice in the header", _CURE, "header_duplicate")
        return values

    try:
        entries = json.loads(raw, object_pairs_hook=once)
    except ValueError as error:
        raise CheckpointError(file, "", f"the header is not JSON: {error}", _CURE, "header_not_json") from error
    if not isinstance(entries, dict):
        raise CheckpointError(file, "", "the header is not a JSON object", _CURE, "header_not_json")
    entries.pop("__metadata__", None)
    return entries


def _info(file: str, name: str, entry: Any, data_start: int) -> TensorInfo:
    """Return one entry of a header, checked for form."""
    try:
        type_name, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
        if not isinstance(type_name, str) or not all(type(number) is int and number >= 0 for number in numbers):
            raise TypeError
        if end < begin:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        message = "its header entry lacks a dtype, a shape or two ascending data_offsets"
        raise CheckpointError(file, name, message, _CURE, "header_entry") from None
    return TensorInfo(file, type_name, tuple(shape), data_start + begin, data_start + end)
