"""Writes safetensors files and their index, without the safetensors package."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3"}
Named = list[tuple[str, Tensor]]


def write_files(path: Path, tensors: Iterable[tuple[str, Tensor]], file_bytes: int) -> None:
    """Write `model-0000i-of-0000n.safetensors` and `model.safetensors.index.json`.

    Args:
        path: an existing folder.
        tensors: names and values, in the order in which the files are filled.
        file_bytes: a file is closed by the tensor that makes it this large.
    """
    groups = _groups(tensors, file_bytes)
    weight_map: dict[str, str] = {}
    total_bytes = 0
    for number, group in enumerate(groups, start=1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        total_bytes += write_file(path / file, group)
        weight_map |= {name: file for name, _ in group}
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _groups(tensors: Iterable[tuple[str, Tensor]], file_bytes: int) -> list[Named]:
    groups: list[Named] = [[]]
    size = 0
    for name, tensor in tensors:
        if size >= file_bytes:
            groups.append([])
            size = 0
        groups[-1].append((name, tensor))
        size += tensor.nbytes
    return groups


def write_file(path: Path, tensors: Named) -> int:
    """Write one file and return its tensor bytes, header not counted."""
    # Wide elements first: then each tensor starts at a multiple of its element's size.
    ordered = sorted(tensors, key=lambda item: -item[1].element_size())
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return end
