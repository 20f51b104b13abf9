"""Each role loads its part and nothing else, whatever form the checkpoint has."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import GlmMoeDsaForCausalLM

from glm5_model.batch import SequenceRows
from glm5_model.checkpoint import Checkpoint, load_attention, load_experts, model_digest
from glm5_model.config import ModelConfig
from glm5_model.errors import NotHeld
from glm5_model.experts import ExpertWeights
from glm5_model.kernels import kernels_for
from unit.model.conftest import NANO, Served, page_table, serve, tokens
from unit.model.rewriting import BLOCK, change_config, tensors_of, to_fp8, with_mtp, write

LAYERS, HIDDEN, WIDTH = NANO["num_hidden_layers"], NANO["hidden_size"], NANO["moe_intermediate_size"]
ONE_EXPERT_BYTES = 3 * HIDDEN * WIDTH * 4
SPARSE_LAYERS = 3


@pytest.fixture
def bytes_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which every read of tensor bytes is added."""
    counts: list[int] = []
    plain = os.preadv

    def counting(*arguments: object) -> int:
        counts.append(plain(*arguments))  # type: ignore[arg-type]
        return counts[-1]

    monkeypatch.setattr(os, "preadv", counting)
    return counts


@pytest.mark.parametrize("experts", [[3], [0, 15], list(range(4, 8)), []])
def test_a_shard_reads_the_bytes_of_its_experts_only(plain: Path, bytes_taken: list[int], experts: list[int]) -> None:
    held = load_experts(plain, experts, torch.float32)
    assert sum(bytes_taken) == SPARSE_LAYERS * len(experts) * ONE_EXPERT_BYTES
    assert held.layers == (2, 3, 4)
    assert [held.experts(layer) for layer in held.layers] == [tuple(experts)] * SPARSE_LAYERS


def test_a_worker_reads_everything_but_the_experts(plain: Path, bytes_taken: list[int]) -> None:
    load_attention(plain, torch.float32)
    with Checkpoint(plain) as checkpoint:
        rest = sum(info.num_bytes for name, info in checkpoint.tensors.items() if ".experts." not in name)
    assert sum(bytes_taken) == rest


def test_progress_rises_to_one(plain: Path) -> None:
    for load in (
        lambda told: load_attention(plain, torch.float32, told),
        lambda told: load_experts(plain, [1], torch.float32, told),
    ):
        shares: list[float] = []
        load(shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert len(shares) >= SPARSE_LAYERS


def test_an_expert_that_the_model_or_the_shard_lacks_is_named(plain: Path) -> None:
    with pytest.raises(NotHeld, match="expert 16 "):
        load_experts(plain, [16], torch.float32)
    served = serve(plain)
    shard = load_experts(plain, [4, 5], torch.float32)
    row, pair = torch.zeros(1, HIDDEN), torch.tensor([0])
    with pytest.raises(NotHeld, match=r"expert 7 of layer 3 .* experts 4 to 5"):
        shard.product(3, row, pair, torch.tensor([7]), served.kernels)
    with pytest.raises(NotHeld, match="layer 0"):
        shard.product(0, row, pair, torch.tensor([4]), served.kernels)


def test_no_pairs_give_no_outputs(plain: Path) -> None:
    served = serve(plain)
    none = torch.empty(0, dtype=torch.int64)
    assert served.experts.product(2, torch.zeros(0, HIDDEN), none, none, served.kernels).shape == (0, HIDDEN)


def logits(served: Served, ids: Tensor) -> Tensor:
    return served.run(served.cache(), SequenceRows(ids, 0, page_table(len(ids)), "all"))


def transformers_logits(path: Path, ids: Tensor) -> Tensor:
    model = GlmMoeDsaForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        found: Tensor = model(ids[None], use_cache=False).logits[0]
    return found


def test_several_files_give_the_bits_of_one(plain: Path, tmp_path: Path) -> None:
    split = write(plain, tmp_path / "split", tensors_of(plain), files=4)
    ids = tokens(40)
    assert torch.equal(logits(serve(split), ids), logits(serve(plain), ids))


def test_a_bfloat16_checkpoint_gives_the_logits_of_transformers(plain: Path, tmp_path: Path) -> None:
    half = {name: value.bfloat16() for name, value in tensors_of(plain).items()}
    path = write(plain, tmp_path / "half", half, files=2)
    ids = tokens(96)
    assert (logits(serve(path), ids) - transformers_logits(path, ids)).abs().max() < 1e-4


def test_an_fp8_checkpoint_gives_the_logits_of_transformers_on_what_it_multiplies_out_to(
    plain: Path, tmp_path: Path
) -> None:
    stored, exact = to_fp8(tensors_of(plain))
    path = write(plain, tmp_path / "fp8", stored, files=2)
    change_config(path, quantization_config={"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]})
    reference = write(plain, tmp_path / "exact", exact)
    assert stored["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"].shape[0] % BLOCK, "a partial block is there"
    ids = tokens(96)
    assert (logits(serve(path), ids) - transformers_logits(reference, ids)).abs().max() < 1e-4


def test_the_mtp_layer_is_loaded_beside_the_others_and_changes_no_logit(plain: Path, tmp_path: Path) -> None:
    path = write(plain, tmp_path / "mtp", with_mtp(tensors_of(plain), LAYERS, HIDDEN), files=3)
    change_config(path, num_nextn_predict_layers=1)
    weights = load_attention(path, torch.float32)
    assert weights.mtp is not None
    assert weights.mtp.combine.shape == (2 * HIDDEN, HIDDEN)
    assert weights.mtp.layer.indexer is not None
    assert load_experts(path, [2], torch.float32).layers == (2, 3, 4, LAYERS)
    ids = tokens(40)
    assert torch.equal(logits(serve(path), ids), logits(serve(plain), ids))


def test_a_config_that_promises_an_mtp_layer_may_come_without_one(plain: Path, tmp_path: Path) -> None:
    path = shutil.copytree(plain, tmp_path / "model")
    change_config(path, num_nextn_predict_layers=1)
    assert load_attention(path, torch.float32).mtp is None
    assert load_experts(path, [2], torch.float32).layers == (2, 3, 4)


def test_the_digest_is_that_of_config_and_headers(plain: Path, tmp_path: Path) -> None:
    same = shutil.copytree(plain, tmp_path / "same")
    assert model_digest(same) == model_digest(plain)
    change_config(same, rope_theta=5.0)
    split = write(plain, tmp_path / "split", tensors_of(plain), files=2)
    assert len({model_digest(path) for path in (plain, same, split)}) == 3


def test_the_latent_norms_take_their_own_epsilon(plain: Path, tmp_path: Path) -> None:
    path = shutil.copytree(plain, tmp_path / "model")
    change_config(path, mla_latent_norm_eps=0.5)
    assert ModelConfig.from_dir(plain).latent_norm_eps == 1e-6
    ids = tokens(10)
    assert (logits(serve(path), ids) - logits(serve(plain), ids)).abs().max() > 0.01


def test_shards_hold_what_they_were_split_into(plain: Path) -> None:
    whole = load_experts(plain, range(16), torch.float32)
    halves = [whole.select(tuple(range(first, first + 8))) for first in (0, 8)]
    assert [half.experts(3) for half in halves] == [tuple(range(8)), tuple(range(8, 16))]
    loaded = load_experts(plain, range(8, 16), torch.float32)
    assert_same_experts(halves[1], loaded)


def assert_same_experts(left: ExpertWeights, right: ExpertWeights) -> None:
    kernels = kernels_for("cpu", "invariant", torch.float32)
    rows, pairs = torch.randn(8, HIDDEN, generator=torch.Generator().manual_seed(1)), torch.arange(8)
    for layer in left.layers:
        ids = torch.tensor(left.experts(layer))
        ours, theirs = (held.product(layer, rows, pairs, ids, kernels) for held in (left, right))
        assert torch.equal(ours, theirs)
