"""Every kind of damage to a checkpoint is found, named, placed and given a cure; a good one is good."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glm5_model.checkpoint import check, load_attention, load_experts
from glm5_model.errors import ModelError
from unit.model.conftest import NANO
from unit.model.rewriting import BLOCK, INDEX, SINGLE, change_config, tensors_of, to_fp8, with_mtp, write

Q_A = "model.layers.1.self_attn.q_a_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"
EXPERT = "model.layers.3.mlp.experts.5.up_proj.weight"
LAYERS, HIDDEN = NANO["num_hidden_layers"], NANO["hidden_size"]


@pytest.fixture(scope="module")
def forms(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return sound checkpoints in every form."""
    folder = tmp_path_factory.mktemp("forms")
    tensors = tensors_of(plain)
    made = {"plain": plain, "split": write(plain, folder / "split", tensors, files=3)}
    made["fp8"] = write(plain, folder / "fp8", to_fp8(tensors)[0], files=2)
    change_config(made["fp8"], quantization_config={"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]})
    made["mtp"] = write(plain, folder / "mtp", with_mtp(tensors, LAYERS, HIDDEN))
    change_config(made["mtp"], num_nextn_predict_layers=1)
    bf16 = {name: value.bfloat16() if "bias" not in name else value for name, value in tensors.items()}
    made["bf16"] = write(plain, folder / "bf16", bf16)
    return made


@pytest.mark.parametrize("form", ["plain", "split", "fp8", "mtp", "bf16"])
def test_a_sound_checkpoint_has_no_faults(forms: dict[str, Path], form: str) -> None:
    assert check(forms[form]) == []


def remove_tensor(path: Path, name: str) -> None:
    tensors = tensors_of(path)
    del tensors[name]
    rewrite(path, tensors)


def set_tensor(path: Path, name: str, value: Tensor) -> None:
    rewrite(path, tensors_of(path) | {name: value})


def rewrite(path: Path, tensors: dict[str, Tensor]) -> None:
    target = path.with_name("rewritten")
    write(path, target, tensors)
    shutil.rmtree(path)
    target.rename(path)


def with_header(path: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
    """Change the header of the single file; the tensors' bytes stay."""
    raw = (path / SINGLE).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (path / SINGLE).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def set_offsets(path: Path, name: str, move: int) -> None:
    def change(header: dict[str, dict[str, object]]) -> None:
        begin, end = header[name]["data_offsets"]  # type: ignore[misc]
        header[name]["data_offsets"] = [begin + move, end + move]  # type: ignore[operator]

    with_header(path, change)


def cut(path: Path, count: int) -> None:
    os.truncate(path / SINGLE, (path / SINGLE).stat().st_size - count)


def index(path: Path, **changes: str | None) -> None:
    values = json.loads((path / INDEX).read_text())
    values["weight_map"] |= {name.replace("/", "."): file for name, file in changes.items()}
    (path / INDEX).write_text(json.dumps(values))


def last_layer(path: Path) -> str:
    return f"model.layers.{LAYERS}."


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "folder_missing": ("plain", lambda p: shutil.rmtree(p)),
    "config_missing": ("plain", lambda p: (p / "config.json").unlink()),
    "config_not_json": ("plain", lambda p: (p / "config.json").write_text("{")),
    "model_unsupported": ("plain", lambda p: change_config(p, model_type="glm5_next")),
    "config_unsupported": ("plain", lambda p: change_config(p, n_group=2)),
    "config_key_missing": ("plain", lambda p: change_config(p, kv_lora_rank=None)),
    "config_value": ("plain", lambda p: change_config(p, index_topk=-1)),
    "config_layers": ("plain", lambda p: change_config(p, indexer_types=["full"])),
    "config_blocks": ("fp8", lambda p: change_config(p, quantization_config={"weight_block_size": "big"})),
    "no_weights": ("plain", lambda p: (p / SINGLE).unlink()),
    "index_damaged": ("split", lambda p: (p / INDEX).write_text("{}")),
    "index_outside": ("split", lambda p: index(p, **{Q_A: "../model.safetensors"})),
    "index_wrong_file": (
        "split",
        lambda p: index(
            p,
            **{"model.norm.weight": "model-00000.safetensors"}
            | {"lm_head.weight": "model-00001.safetensors", "model.embed_tokens.weight": "model-00002.safetensors"},
        ),
    ),
    "file_missing": ("split", lambda p: (p / "model-00001.safetensors").unlink()),
    "file_unreadable": ("plain", lambda p: ((p / SINGLE).unlink(), (p / SINGLE).mkdir())),
    "file_empty": ("plain", lambda p: os.truncate(p / SINGLE, 3)),
    "file_truncated": ("plain", lambda p: cut(p, 1000)),
    "header_length": ("plain", lambda p: os.truncate(p / SINGLE, 100)),
    "header_not_json": ("plain", lambda p: (p / SINGLE).write_bytes(struct.pack("<Q", 4) + b"nope" + b"\0" * 8)),
    "header_entry": ("plain", lambda p: with_header(p, lambda h: h[Q_A].pop("shape"))),
    "ranges_overlap": ("plain", lambda p: set_offsets(p, Q_A, -64)),
    "ranges_gap": ("plain", lambda p: with_header(p, lambda h: h.pop(NORM))),
    "trailing_bytes": ("plain", lambda p: (p / SINGLE).open("ab").write(b"\0" * 10)),
    "wrong_size": ("plain", lambda p: with_header(p, lambda h: h[NORM].update(shape=[HIDDEN - 1]))),
    "tensor_missing": ("plain", lambda p: remove_tensor(p, EXPERT)),
    "wrong_shape": ("plain", lambda p: set_tensor(p, Q_A, torch.zeros(3, HIDDEN))),
    "wrong_type": ("plain", lambda p: set_tensor(p, Q_A, torch.zeros(48, HIDDEN, dtype=torch.int8))),
    "not_finite": ("plain", lambda p: set_tensor(p, NORM, torch.full((HIDDEN,), float("nan")))),
    "mtp_incomplete": ("mtp", lambda p: remove_tensor(p, last_layer(p) + "enorm.weight")),
    "unexpected_layer": ("plain", lambda p: set_tensor(p, "model.layers.9.input_layernorm.weight", torch.ones(HIDDEN))),
    "unexpected_expert": ("plain", lambda p: set_tensor(p, EXPERT.replace(".5.", ".16."), torch.zeros(32, HIDDEN))),
    "scale_missing": ("fp8", lambda p: remove_tensor(p, Q_A + "_scale_inv")),
    "scale_unexpected": ("plain", lambda p: set_tensor(p, Q_A + "_scale_inv", torch.ones(1, 1))),
    "scale_type": ("fp8", lambda p: set_tensor(p, Q_A + "_scale_inv", torch.ones(3, 4, dtype=torch.bfloat16))),
    "scale_shape": ("fp8", lambda p: set_tensor(p, Q_A + "_scale_inv", torch.ones(2, 4))),
    "scale_not_finite": ("fp8", lambda p: set_tensor(p, Q_A + "_scale_inv", torch.full((3, 4), float("nan")))),
    "scale_lonely": ("fp8", lambda p: set_tensor(p, "model.layers.1.mlp.nothing.weight_scale_inv", torch.ones(1, 1))),
}
"""Kind of fault: the form of checkpoint to start from, and the damage."""

HARMLESS_WHEN_LOADED = {"not_finite", "unexpected_layer", "unexpected_expert", "scale_lonely"}
"""Loading reads only its part, and does not look at every number."""


def load_everything(path: Path) -> None:
    load_attention(path, torch.float32)
    load_experts(path, range(16), torch.float32)


def damaged(forms: dict[str, Path], kind: str, folder: Path) -> Path:
    form, damage = DAMAGE[kind]
    path = folder / "model"
    shutil.copytree(forms[form], path)
    damage(path)
    return path


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_damage_is_found_by_its_name_with_a_cure(forms: dict[str, Path], kind: str, tmp_path: Path) -> None:
    faults = check(damaged(forms, kind, tmp_path))
    assert kind in {fault.kind for fault in faults}, faults
    # One damage shows as one or two faults, not as an avalanche.
    assert len(faults) <= 3, faults
    assert all(fault.file and fault.message and fault.cure for fault in faults), faults


@pytest.mark.parametrize("kind", sorted(set(DAMAGE) - HARMLESS_WHEN_LOADED))
def test_loading_what_is_damaged_says_so_and_returns_nothing(forms: dict[str, Path], kind: str, tmp_path: Path) -> None:
    path = damaged(forms, kind, tmp_path)
    with pytest.raises(ModelError) as caught:
        load_everything(path)
    assert ";" in str(caught.value), "what is wrong; how to mend it"


def test_a_duplicate_name_in_a_header_is_found(forms: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(forms["plain"], path)
    text = b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "a": {}}'
    (path / SINGLE).write_bytes(struct.pack("<Q", len(text)) + text)
    assert check(path)[0].kind == "header_duplicate"


def test_all_faults_come_at_once(forms: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(forms["fp8"], path)
    tensors = tensors_of(path)
    del tensors[EXPERT]
    tensors[Q_A + "_scale_inv"] = torch.full((3, 4), float("inf"))
    tensors[NORM] = torch.ones(3)
    rewrite(path, tensors)
    assert {fault.kind for fault in check(path)} == {
        "tensor_missing",
        "scale_lonely",
        "scale_not_finite",
        "wrong_shape",
    }


@pytest.mark.parametrize("name", ["glm5_next", "glm4_moe_lite", "llama"])
def test_another_architecture_is_refused_by_its_name(forms: dict[str, Path], tmp_path: Path, name: str) -> None:
    path = tmp_path / "model"
    shutil.copytree(forms["plain"], path)
    change_config(path, model_type=name)
    (fault,) = check(path)
    assert fault.kind == "model_unsupported"
    assert name in fault.message
    assert "glm_moe_dsa" in fault.cure
