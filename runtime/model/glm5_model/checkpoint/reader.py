"""Single tensors of a checkpoint, read by position and turned into what the mathematics wants."""

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from glm5_model.checkpoint.blocks import DEFAULT_BLOCK, dequantise, scale_shape
from glm5_model.checkpoint.header import TYPES, TensorInfo
from glm5_model.checkpoint.index import locate
from glm5_model.errors import CheckpointError
from glm5_model.names import SCALE_SUFFIX

_CURE = "download the file again"
_OTHER = "check that config.json belongs to these files"


class Checkpoint:
    """An open checkpoint folder; `bytes_read` counts what was taken from its tensors."""

    def __init__(self, path: str | Path) -> None:
        """Read index and headers.

        Raises:
            CheckpointError: the folder holds no checkpoint, or index or headers are damaged.
        """
        folder = Path(path)
        self._open(folder, locate(folder), block_size(folder))

    @classmethod
    def of(cls, folder: Path, tensors: dict[str, TensorInfo], block: tuple[int, int]) -> Self:
        """Return a checkpoint of which only `tensors` are known."""
        checkpoint = cls.__new__(cls)
        checkpoint._open(folder, tensors, block)
        return checkpoint

    def _open(self, folder: Path, tensors: dict[str, TensorInfo], block: tuple[int, int]) -> None:
        """Take what is known; files are opened when they are first read."""
        self.folder, self.tensors, self.block = folder, tensors, block
        self.bytes_read = 0
        self._files: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Return the checkpoint itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def has_prefix(self, prefix: str) -> bool:
        """Return whether any tensor's name begins with `prefix`."""
        return any(name.startswith(prefix) for name in self.tensors)

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor of `shape` as `dtype`, multiplied out where it is block-FP8.

        Raises:
            CheckpointError: it is missing, has another shape or type, is cut off, or its multipliers are not finite.
        """
        info = self._find(name)
        if info.shape != shape:
            message = f"has shape {list(info.shape)}, wanted {list(shape)}"
            raise CheckpointError(info.file, name, message, _OTHER, "wrong_shape")
        raw = self._raw(name, info)
        if name + SCALE_SUFFIX not in self.tensors:
            if raw.dtype == torch.float8_e4m3fn:
                raise CheckpointError(info.file, name, f"is FP8 without {SCALE_SUFFIX}", _CURE, "scale_missing")
            return raw.to(dtype)
        if raw.dtype != torch.float8_e4m3fn:
            message = f"multiplies a weight of type {info.type_name}, wanted F8_E4M3"
            raise CheckpointError(info.file, name + SCALE_SUFFIX, message, _CURE, "scale_unexpected")
        return dequantise(raw, self.scale(name, shape), self.block).to(dtype)

    def is_bfloat16(self, name: str) -> bool:
        """Return whether a tensor is stored in bfloat16; a missing one is not."""
        return name in self.tensors and self.tensors[name].type_name == "BF16"

    def scale(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return the multipliers of FP8 weight `name` of `shape`, float32.

        Raises:
            CheckpointError: they have another shape or type, or one of them is not a positive finite number.
        """
        scale_name = name + SCALE_SUFFIX
        info = self._find(scale_name)
        wanted = scale_shape(shape, self.block)
        if info.shape != wanted or info.type_name != "F32":
            message = f"is {info.type_name} {list(info.shape)}, wanted F32 {list(wanted)}"
            kind = "scale_shape" if info.type_name == "F32" else "scale_type"
            raise CheckpointError(info.file, scale_name, message, _OTHER, kind)
        values = self._raw(scale_name, info)
        if not bool((torch.isfinite(values) & (values >= 0)).all()):
            message = "holds a multiplier that is NaN, infinite or negative"
            raise CheckpointError(info.file, scale_name, message, _CURE, "scale_not_finite")
        return values

    def stored(self, name: str) -> Tensor:
        """Return a tensor as it is stored, without multiplying.

        Raises:
            CheckpointError: it is missing, of an unknown type, or cut off.
        """
        return self._raw(name, self._find(name))

    def _find(self, name: str) -> TensorInfo:
        """Return where a tensor lies."""
        try:
            return self.tensors[name]
        except KeyError:
            raise CheckpointError(str(self.folder), name, "is missing", _OTHER, "tensor_missing") from None

    def _raw(self, name: str, info: TensorInfo) -> Tensor:
        """Return a tensor as it is stored."""
        dtype = TYPES.get(info.type_name)
        if dtype is None:
            message = f"has type {info.type_name}, wanted one of {sorted(TYPES)}"
            raise CheckpointError(info.file, name, message, _OTHER, "wrong_type")
        size = math.prod(info.shape) * dtype.itemsize
        if info.num_bytes != size:
            message = f"takes {info.num_bytes} bytes, its shape wants {size}"
            raise CheckpointError(info.file, name, message, _CURE, "wrong_size")
        buffer = bytearray(size)
        got = self._fill(info, memoryview(buffer))
        if got < size:
            message = f"the file ends {size - got} bytes before the tensor does"
            raise CheckpointError(info.file, name, message, _CURE, "file_truncated")
        return torch.frombuffer(buffer, dtype=dtype).view(info.shape)

    def _fill(self, info: TensorInfo, view: memoryview) -> int:
        """Read a tensor's bytes into `view`; return how many there were."""
        if info.file not in self._files:
            self._files[info.file] = os.open(self.folder / info.file, os.O_RDONLY)
        done = 0
        while done < len(view):
            # One call moves at most 2 GiB.
            count = os.preadv(self._files[info.file], [view[done:]], info.begin + done)
            if count == 0:
                break
            done += count
        self.bytes_read += done
        return done


def block_size(folder: Path) -> tuple[int, int]:
    """Return rows and columns of an FP8 block, from config.json, 128 x 128 where it does not say."""
    try:
        quantisation = json.loads((folder / "config.json").read_bytes()).get("quantization_config") or {}
        rows, columns = quantisation.get("weight_block_size") or DEFAULT_BLOCK
        if min(rows, columns) < 1:
            raise ValueError(f"{rows} x {columns}")
        return int(rows), int(columns)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        message, cure = f"weight_block_size cannot be read: {error}", "use the config.json of the weights"
        raise CheckpointError("config.json", "", message, cure, "config_blocks") from error
