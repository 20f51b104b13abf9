"""Finding everything that is wrong with a checkpoint at once, without loading it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from glm5_model.checkpoint import check_tensors, check_values
from glm5_model.checkpoint.header import TensorInfo, scan_header
from glm5_model.checkpoint.index import SINGLE, not_in_file, weight_map
from glm5_model.checkpoint.reader import Checkpoint, block_size
from glm5_model.config import ModelConfig
from glm5_model.errors import CheckpointError, ConfigError


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a checkpoint."""

    kind: str
    """A word for the kind of fault, for example "file_truncated"; the same for the same damage."""
    file: str
    """Name of the file inside the checkpoint's folder, or the folder itself."""
    tensor: str
    """Name of the tensor, "" where a whole file is meant."""
    message: str
    """What is wrong, with the values seen and wanted."""
    cure: str
    """What the user can do."""

    @classmethod
    def of(cls, error: CheckpointError) -> Self:
        """Return the fault that loading would have met as `error`."""
        return cls(error.kind, error.file, error.tensor, error.message, error.cure)


def check(path: str | Path) -> list[Fault]:
    """Return every fault of the checkpoint at `path`; an empty list means that it can be served.

    Index, headers, multipliers of FP8 blocks and small tensors are read, no large weight is.
    """
    folder = Path(path)
    if not folder.is_dir():
        return [Fault("folder_missing", str(folder), "", "is not a folder", "check the model path")]
    return [*_faults(folder)]


def _faults(folder: Path) -> Iterator[Fault]:
    """Yield every fault: config, files, tensors, values."""
    config: ModelConfig | None = None
    try:
        config = ModelConfig.from_dir(folder)
    except ConfigError as error:
        message, _, cure = str(error).partition("; ")
        yield Fault(error.kind, "config.json", "", message.removeprefix("config.json: "), cure)
    tensors, unreadable, errors = _scan(folder)
    yield from map(Fault.of, errors)
    if config is None:
        return
    try:
        block = block_size(folder)
    except CheckpointError as error:
        yield Fault.of(error)
        return
    shape_errors = list(check_tensors.tensor_errors(config, tensors, block, unreadable, str(folder)))
    yield from map(Fault.of, shape_errors)
    spoiled = {error.tensor for error in [*errors, *shape_errors]}
    sound = {name: info for name, info in tensors.items() if name not in spoiled}
    with Checkpoint.of(folder, sound, block) as checkpoint:
        yield from map(Fault.of, check_values.value_errors(checkpoint))


def _scan(folder: Path) -> tuple[dict[str, TensorInfo], set[str] | None, list[CheckpointError]]:
    """Return the tensors that could be located, those that could not, and what was wrong with index and files.

    Where the index or the only file cannot be read, nobody knows which tensors could not: that is None.
    """
    try:
        mapping = weight_map(folder)
    except CheckpointError as error:
        return {}, None, [error]
    files = sorted(set(mapping.values())) if mapping is not None else [SINGLE]
    scanned = {file: scan_header(folder, file) for file in files}
    errors = [error for _, found in scanned.values() for error in found]
    if mapping is None:
        tensors, found = scanned[SINGLE]
        named = {error.tensor for error in found}
        return tensors, None if not tensors and "" in named else named, errors
    broken = {file for file, (_, found) in scanned.items() if any(not error.tensor for error in found)}
    named = {error.tensor for error in errors}
    located = {name: scanned[file][0][name] for name, file in mapping.items() if name in scanned[file][0]}
    lost = {name: file for name, file in mapping.items() if name not in located}
    errors += [not_in_file(name, file) for name, file in lost.items() if file not in broken and name not in named]
    return located, set(lost), errors
