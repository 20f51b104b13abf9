"""The checkpoint that all systems serve: GLM-5's architecture with 256 experts and about 400 M parameters, bf16.

Usage: python benchmarks/checkpoint.py FOLDER
"""

import sys
from pathlib import Path

from glm5_model.toy import write_toy

SIZES = {
    "hidden_size": 512,
    "num_dense_layers": 1,
    "num_sparse_layers": 5,
    "num_attention_heads": 8,
    "q_lora_rank": 256,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "intermediate_size": 1536,
    "moe_intermediate_size": 192,
    "index_n_heads": 16,
    "index_head_dim": 64,
    "index_topk": 2048,
    "file_bytes": 256 << 20,
}


def bench_checkpoint(folder: Path) -> Path:
    """Return the checkpoint in `folder`, written where it is not there yet."""
    path = folder / "glm5-bench"
    if not (path / "config.json").exists():
        write_toy(path, variant="5.0", dtype="bfloat16", seed=0, **SIZES)
    return path


if __name__ == "__main__":
    print(bench_checkpoint(Path(sys.argv[1])))
