"""The toy checkpoint is complete, small, the same each time, and loads in transformers."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from glm5_model.toy import ToyError, write_toy
from glm5_model.toy.__main__ import main
from glm5_model.toy.config import indexer_types
from glm5_model.toy.fp8 import is_quantised, quantise

SMALL = {"num_dense_layers": 1, "num_sparse_layers": 1, "moe_intermediate_size": 4}
FILES = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
}


def read(folder: Path) -> dict[str, Tensor]:
    tensors = {}
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for file in sorted(set(index["weight_map"].values())):
        with safe_open(folder / file, framework="pt") as opened:
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        assert {index["weight_map"][name] for name in found} == {file}
        tensors |= found
    assert set(tensors) == set(index["weight_map"])
    assert sum(tensor.nbytes for tensor in tensors.values()) == index["metadata"]["total_size"]
    return tensors


def digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


@pytest.mark.parametrize("variant", ["5.0", "5.2"])
@pytest.mark.parametrize("options", [{}, {"dtype": torch.bfloat16}, {"mtp": True}, {"fp8": True, "mtp": True}])
def test_every_toy_is_complete_and_under_30_mb(tmp_path: Path, variant: str, options: dict[str, bool]) -> None:
    folder = write_toy(tmp_path / "toy", variant, **options)
    files = {file.name: file.stat().st_size for file in folder.iterdir()}
    assert set(files) > FILES
    assert sum(files.values()) < 30_000_000
    tensors = read(folder)
    assert ("model.layers.8.eh_proj.weight" in tensors) == options.get("mtp", False)
    assert all(tensor.float().isfinite().all() for tensor in tensors.values())


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    folders = [write_toy(tmp_path / name, seed=seed, **SMALL) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, second, other = [digest(folder) for folder in folders]
    assert first == second
    changed = {name for name in first if first[name] != other[name]}
    assert changed == {name for name in first if name.endswith(".safetensors")}


def test_the_default_has_the_mechanisms_of_the_real_model(tmp_path: Path) -> None:
    config = json.loads((write_toy(tmp_path / "toy", "5.2") / "config.json").read_text())
    assert (config["n_routed_experts"], config["num_experts_per_tok"], config["index_topk"]) == (256, 8, 64)
    assert config["index_n_heads"] >= 16
    assert config["max_position_embeddings"] == 32768
    assert config["mlp_layer_types"] == ["dense"] * 3 + ["sparse"] * 5
    assert config["indexer_types"] == ["full", "full", "full", "shared", "shared", "shared", "full", "shared"]
    assert config["rope_parameters"]["rope_theta"] == 8_000_000


def test_indexshare_follows_the_published_pattern() -> None:
    full = [layer for layer, kind in enumerate(indexer_types("5.2", 78)) if kind == "full"]
    assert full == [0, 1, 2, *range(6, 78, 4)]
    assert indexer_types("5.0", 78) == ["full"] * 78


def test_nothing_that_a_fresh_model_leaves_neutral_is_neutral(tmp_path: Path) -> None:
    for name, tensor in read(write_toy(tmp_path / "toy", **SMALL)).items():
        if "norm" in name or name.endswith("bias"):
            assert tensor.std() > 0.01, name
        if name.endswith("e_score_correction_bias"):
            assert tensor.dtype == torch.float32


def test_fp8_weights_times_their_scales_are_the_weights(tmp_path: Path) -> None:
    plain = read(write_toy(tmp_path / "plain", **SMALL))
    # 32 rows and columns a block: the 48 rows of kv_a_proj_with_mqa are one block and a half.
    packed = read(write_toy(tmp_path / "fp8", fp8=True, fp8_block=32, **SMALL))
    assert packed["model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv"].shape == (2, 2)
    for name, weight in plain.items():
        if not is_quantised(name):
            assert torch.equal(packed[name], weight), name
            continue
        rows, columns = weight.shape
        scale = packed[name + "_scale_inv"].repeat_interleave(32, 0).repeat_interleave(32, 1)[:rows, :columns]
        # 3 bits of mantissa: half a step of 1/8 at most; below the normal numbers 2^-10 of the scale.
        error = (packed[name].float() * scale - weight).abs()
        assert (error <= weight.abs() / 16 + scale / 1024).all(), name


def test_a_block_of_zeros_stays_zero() -> None:
    values, scale = quantise(torch.zeros(3, 5), block=4)
    assert scale.shape == (1, 2)
    assert (values.float() == 0).all()
    assert scale.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "4.7"}, "variant '4.7' is unknown: choose one of 5.0, 5.2"),
        ({"dtype": "float16"}, "dtype 'float16' is unknown"),
        ({"hiden_size": 64}, "unknown hiden_size; known are hidden_size"),
        ({"vocab_size": 100}, "vocab_size 100 is too small"),
        ({"index_head_dim": 8}, "index_head_dim 8 is below qk_rope_head_dim 16"),
        ({"index_topk": 0}, "index_topk is 0"),
    ],
)
def test_a_senseless_toy_is_refused_before_anything_is_written(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ToyError, match=message):
        write_toy(tmp_path / "toy", **arguments)
    assert not (tmp_path / "toy").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(ToyError, match="not an empty folder"):
        write_toy(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]


def test_the_command_line_writes_what_the_function_writes(tmp_path: Path) -> None:
    sizes = [f"--size={name}={value}" for name, value in SMALL.items()]
    assert main([str(tmp_path / "a"), "--variant", "5.2", "--dtype", "bfloat16", "--seed", "3", *sizes]) == 0
    write_toy(tmp_path / "b", "5.2", "bfloat16", seed=3, **SMALL)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "a"), "--size", "hidden_size=many"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'hidden_size=many' is not NAME=N" in error
