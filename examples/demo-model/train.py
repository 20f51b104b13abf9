"""Trains the demo model from nothing on a CPU and writes the checkpoint into this folder.

Run as `python examples/demo-model/train.py [--threads N] [--out DIR]`. It needs what `make install-dev` installs.
See README.md for what comes out and how long it takes.
"""

import argparse
import random
import time
from pathlib import Path

import torch
from balance import Balancer
from bpe import train_merges
from checkpoint import NUM_MERGES, load_tokenizer, new_model, save
from examination import examine
from samples import batches, draw, texts
from stages import STAGES, Stage
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GlmMoeDsaForCausalLM, PreTrainedTokenizerBase

HERE = Path(__file__).parent
SEED = 5
BATCH_TOKENS = 2048


def main() -> None:
    """Train, save after each stage, and print the examination's result."""
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    merges = train_merges(corpus(), NUM_MERGES)
    tokenizer, model = load_tokenizer(merges), new_model(merges)
    select_everything(model)
    for number, stage in enumerate(STAGES):
        train(model, tokenizer, stage, random.Random(SEED + number))
        save(model, merges, arguments.out)
    examine(arguments.out)


def train(model: GlmMoeDsaForCausalLM, tokenizer: PreTrainedTokenizerBase, stage: Stage, rng: random.Random) -> None:
    """Train one stage in place."""
    balancer = Balancer(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    source, started = batches(tokenizer, rng, stage, BATCH_TOKENS), time.monotonic()
    for step in range(stage.steps):
        ids, labels = next(source)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, stage)
        optimizer.step()
        optimizer.zero_grad()
        balancer.step(1e-3 * (1 - step / stage.steps))
        if step % 20 == 0 or step == stage.steps - 1:
            print(f"step {step:5} loss {loss:.4f} {time.monotonic() - started:6.0f} s", flush=True)
    balancer.close()


def learning_rate(step: int, stage: Stage) -> float:
    """Return a warm-up of 50 steps and a line down to 2 %."""
    return stage.rate * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * (1 - step / stage.steps))


def select_everything(model: GlmMoeDsaForCausalLM) -> None:
    """Spare the indexers' work: dialogs are shorter than index_topk, so every token is selected anyway."""

    def forward(hidden: Tensor, _: Tensor, __: object, mask: Tensor, *___: object, **____: object) -> Tensor:
        return torch.arange(mask.shape[-1]).expand(*hidden.shape[:2], -1)

    for layer in model.model.layers:
        indexer: nn.Module = layer.self_attn.indexer
        indexer.forward = forward


def corpus() -> list[str]:
    """Return the texts from which the tokenizer's merges are learned."""
    tokenizer, rng = load_tokenizer([]), random.Random(SEED)
    return ["".join(texts(tokenizer, *draw(rng, STAGES[0]))) for _ in range(4000)]


if __name__ == "__main__":
    main()
