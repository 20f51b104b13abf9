"""The header of a safetensors file: eight bytes of length, that much JSON, then the tensors' bytes."""

import json
import os
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
        CheckpointError: the file is missing, its header is damaged, or an entry is not well formed.
    """
    try:
        with (folder / file).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(file, "", f"the header says {length} bytes, the file has {size}", _CURE)
            raw = stream.read(length)
    except OSError as error:
        raise CheckpointError(file, "", f"cannot be read: {error.strerror}", _CURE) from error
    entries = _parse(file, raw)
    return {name: _info(file, name, entry, 8 + length) for name, entry in entries.items() if name != "__metadata__"}


def _parse(file: str, raw: bytes) -> dict[str, Any]:
    """Return the header's JSON object."""
    try:
        entries = json.loads(raw)
    except ValueError as error:
        raise CheckpointError(file, "", f"the header is not JSON: {error}", _CURE) from error
    if not isinstance(entries, dict):
        raise CheckpointError(file, "", "the header is not a JSON object", _CURE)
    return entries


def _info(file: str, name: str, entry: Any, data_start: int) -> TensorInfo:
    """Return one entry of a header, checked for form."""
    try:
        type_name, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
        if not isinstance(type_name, str) or not all(type(number) is int and number >= 0 for number in numbers):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            file, name, "the header's entry lacks a dtype, a shape or two data_offsets", _CURE
        ) from None
    return TensorInfo(file, type_name, tuple(shape), data_start + begin, data_start + end)
