"""A chunk's temporary memory hardly grows with what is in the cache."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import re, sys, torch
from pathlib import Path
from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PagedCache
from glm5_model.checkpoint import load_attention, load_experts
from glm5_model.config import ModelConfig
from glm5_model.kernels import kernels_for
from glm5_model.local import run_local
from glm5_model.transformer import Transformer
torch.set_num_threads(1)
path, length, chunk = sys.argv[1], int(sys.argv[2]), 512
config, kernels = ModelConfig.from_dir(path), kernels_for("cpu", "invariant", torch.float32)
model = Transformer(config, load_attention(path, torch.float32), kernels)
experts = load_experts(path, range(config.num_experts), torch.float32)
cache = PagedCache(config, 256, torch.float32)
def run(start):
    rows = SequenceRows(torch.arange(chunk) % 96, start, torch.arange(256))
    run_local(model.forward(Batch([rows]), cache), experts, kernels)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")
before = peak()
run(length - chunk)
print(peak() - before)
"""


def growth(path: Path, length: int) -> int:
    """Return by how many KiB the last 512 rows of `length` raise the peak, the cache being there already."""
    command = [sys.executable, "-c", PROGRAM, str(path), str(length)]
    # Large blocks go back at once, so that the peak is what is in use, not what the allocator keeps for later.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_sixteen_thousand_tokens_need_at_most_half_more_than_four_thousand(plain: Path) -> None:
    short, long = growth(plain, 4096), growth(plain, 16384)
    assert long <= 1.5 * short, f"{short} KiB at 4,096 tokens, {long} KiB at 16,384"
