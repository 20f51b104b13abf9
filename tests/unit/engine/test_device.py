"""Roles compute on the device that their settings name, or say why they cannot."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glm5_engine.loaded import load as load_worker
from glm5_experts.loaded import load as load_shard
from glm5_model.errors import DeviceError
from glm5_model.kernels import device_of, kernels_for, resolve_dtype
from glm5_model.toy import write_toy
from glm5_spec.settings import ShardSettings, WorkerSettings
from glm5_wire.errors import StartupError
from unit.engine.support import SIZES

TESTS = Path(__file__).parents[2]
ABSENT = [
    pytest.param("cuda", id="cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")),
    pytest.param("npu", id="npu", marks=pytest.mark.skipif(hasattr(torch, "npu"), reason="torch_npu is installed")),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_toy(tmp_path_factory.mktemp("m") / "toy", "5.0", **SIZES))


def test_weights_cache_and_rows_lie_on_the_device_and_give_the_bits_of_the_cpu(path: Path) -> None:
    """In a process of its own: a device that was added to torch cannot be removed again."""
    command = [sys.executable, str(Path(__file__).with_name("on_another_device.py")), str(path)]
    done = subprocess.run(command, env={"PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "equal logits=[100, 320] device=npu shard=npu" in done.stdout


@pytest.mark.parametrize("device", ABSENT)
def test_a_role_without_its_device_says_so_before_it_loads(path: Path, device: str) -> None:
    common = {"model_path": str(path), "device": device}
    for start in (
        lambda: load_worker(WorkerSettings(name="w", role="decode", **common), print),
        lambda: load_shard(ShardSettings(name="s", role="experts", shard=0, num_shards=1, **common), print),
    ):
        with pytest.raises(StartupError, match=f"device '{device}' is not here: .*; set the role's accelerator"):
            start()


@pytest.mark.parametrize("device", ABSENT)
def test_the_type_that_a_device_computes_fastest_is_asked_of_the_device(device: str) -> None:
    with pytest.raises(DeviceError, match=f"'{device}' is not here"):
        resolve_dtype("auto", device)


@pytest.mark.parametrize("device", ["tpu", "cpu:x", ""])
def test_a_device_without_kernels_is_refused_with_those_that_have_some(device: str) -> None:
    with pytest.raises(DeviceError, match=f"device '{device}': there are kernels for cpu, cuda, npu only"):
        kernels_for(device, "invariant", torch.float32)


def test_a_device_of_a_number_that_is_not_there_is_refused() -> None:
    assert device_of("cpu:0") == torch.device("cpu:0")
    with pytest.raises(DeviceError, match="sees 1 of that kind"):
        device_of("cpu:1")
