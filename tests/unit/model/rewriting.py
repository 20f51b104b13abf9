"""Other forms of a checkpoint: several files, bfloat16, FP8 blocks, an MTP layer. Written with safetensors itself."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

BLOCK = 16
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint."""
    found: dict[str, Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        found |= load_file(file)
    return found


def write(source: Path, target: Path, tensors: dict[str, Tensor], files: int = 1) -> Path:
    """Write `tensors` as a checkpoint with the config of `source`, in one file or in several under an index."""
    target.mkdir(parents=True)
    shutil.copy(source / "config.json", target)
    if files == 1:
        save_file(tensors, target / SINGLE)
        return target
    mapping = {name: f"model-{number % files:05}.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(mapping.values()):
        save_file({name: tensors[name] for name, of in mapping.items() if of == file}, target / file)
    (target / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": mapping}))
    return target


def change_config(path: Path, **changes: object) -> None:
    """Set keys of config.json; None removes one."""
    values = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def to_fp8(tensors: dict[str, Tensor], block: int = BLOCK) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors with every projection in FP8 blocks, and what those multiply out to."""
    stored, exact = {}, {}
    for name, value in tensors.items():
        if not name.endswith("proj.weight") and not name.endswith(("wq_b.weight", "wk.weight", "with_mqa.weight")):
            stored[name] = exact[name] = value
            continue
        if name.endswith(("weights_proj.weight", "eh_proj.weight")):
            stored[name] = exact[name] = value
            continue
        rows, columns = value.shape
        scale = torch.empty(-(-rows // block), -(-columns // block))
        for i in range(scale.shape[0]):
            for j in range(scale.shape[1]):
                scale[i, j] = value[i * block : (i + 1) * block, j * block : (j + 1) * block].abs().max() / 448
        full = scale.repeat_interleave(block, 0)[:rows].repeat_interleave(block, 1)[:, :columns]
        stored[name] = (value / full).to(torch.float8_e4m3fn)
        stored[name + "_scale_inv"] = scale
        exact[name] = stored[name].float() * full
    return stored, exact


def with_mtp(tensors: dict[str, Tensor], num_layers: int, hidden: int) -> dict[str, Tensor]:
    """Return the tensors with an MTP layer made of copies of the last layer's, and its own four."""
    last, mtp = f"model.layers.{num_layers - 1}.", f"model.layers.{num_layers}."
    added = {mtp + name.removeprefix(last): value.clone() for name, value in tensors.items() if name.startswith(last)}
    added[mtp + "eh_proj.weight"] = torch.randn(hidden, 2 * hidden)
    for name in ("enorm", "hnorm", "shared_head.norm"):
        added[f"{mtp}{name}.weight"] = torch.ones(hidden)
    return tensors | added
