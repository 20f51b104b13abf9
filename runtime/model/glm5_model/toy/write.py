"""Writes a whole checkpoint folder."""

import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glm5_model.toy.config import VARIANTS, config_json, generation_config_json, quantization_config
from glm5_model.toy.errors import ToyError
from glm5_model.toy.fp8 import is_quantised, quantise
from glm5_model.toy.safetensors import write_files
from glm5_model.toy.sizes import ToySizes
from glm5_model.toy.tokenizer import Merges, num_tokens, stop_ids, tokenizer_config_json, tokenizer_json
from glm5_model.toy.weights import Named, toy_tensors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def write_toy(
    path: str | Path,
    variant: str = "5.0",
    dtype: str | torch.dtype = "float32",
    fp8: bool = False,
    mtp: bool = False,
    seed: int = 0,
    **sizes: int,
) -> Path:
    """Write a complete checkpoint with random weights and return its folder.

    The same arguments give the same bytes. The default is 17 MiB in float32.

    Args:
        path: a new or empty folder; parents are made.
        variant: "5.0" (every layer has an indexer) or "5.2" (layers share one; other theta, other chat template).
        dtype: "float32" or "bfloat16", of all tensors but the float32 correction bias.
        fp8: store the large weights in block-FP8, and the others in `dtype`.
        mtp: add the next-token-prediction layer.
        seed: of the weights.
        sizes: fields of `ToySizes`.

    Raises:
        ToyError: an argument makes no sense, or the folder is in use.
    """
    folder, name, chosen = Path(path), _dtype_name(dtype), ToySizes.of(sizes)
    if chosen.vocab_size < num_tokens():
        raise ToyError(f"toy vocab_size {chosen.vocab_size} is too small: the tokenizer has {num_tokens()} tokens.")
    config = config_json(chosen, variant, name, stop_ids(), mtp)
    tensors = _stored(toy_tensors(config, seed, num_tokens()), DTYPES[name], chosen.fp8_block if fp8 else None)
    if fp8:
        config["quantization_config"] = quantization_config(config, chosen.fp8_block)
    _claim(folder)
    write_checkpoint(folder, config, tensors, (), variant, chosen.file_bytes)
    return folder


def write_checkpoint(
    folder: Path,
    config: dict[str, Any],
    tensors: Iterable[tuple[str, Tensor]],
    merges: Merges,
    variant: str,
    file_bytes: int,
) -> None:
    """Write every file of a checkpoint into an existing folder.

    Args:
        folder: where to.
        config: config.json.
        tensors: names as on the hub, values as stored.
        merges: of the tokenizer.
        variant: "5.0" or "5.2": whose chat template.
        file_bytes: see `ToySizes`.
    """
    write_files(folder, tensors, file_bytes)
    write_tokenizer(folder, merges, variant, config["max_position_embeddings"])
    write_json(folder / "generation_config.json", generation_config_json(config["eos_token_id"]))
    write_json(folder / "config.json", config)


def write_tokenizer(folder: Path, merges: Merges, variant: str, max_length: int) -> None:
    """Write the files that turn text and messages into token ids; see `write_checkpoint`."""
    write_json(folder / "tokenizer.json", tokenizer_json(merges))
    write_json(folder / "tokenizer_config.json", tokenizer_config_json(max_length))
    (folder / "chat_template.jinja").write_text(chat_template(variant), encoding="utf-8")


def chat_template(variant: str) -> str:
    """Return our chat template in the format of GLM-5 and 5.1 ("5.0") or of 5.2 ("5.2")."""
    if variant not in VARIANTS:
        raise ToyError(f"toy variant {variant!r} is unknown: choose one of {', '.join(VARIANTS)}.")
    file = resources.files("glm5_model.toy") / f"chat_template_{variant.replace('.', '_')}.jinja"
    return file.read_text(encoding="utf-8")


def _stored(tensors: Named, dtype: torch.dtype, block: int | None) -> Named:
    for name, tensor in tensors:
        if name.endswith("e_score_correction_bias"):
            yield name, tensor
        elif block is not None and is_quantised(name):
            values, scale = quantise(tensor, block)
            yield name, values
            yield name + "_scale_inv", scale
        else:
            yield name, tensor.to(dtype)


def _dtype_name(dtype: str | torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ToyError(f"toy dtype {name!r} is unknown: choose one of {', '.join(DTYPES)}.")
    return name


def _claim(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ToyError(f"{folder} exists and is not an empty folder: choose another, or empty it first.")
    folder.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` for people to read: indented, in UTF-8."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
