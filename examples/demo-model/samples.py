"""Turns dialogs into token ids and batches."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from dialogs import Dialog, answering, calling, plain, unneeded
from stages import Stage
from torch import Tensor
from transformers import PreTrainedTokenizerBase

IGNORED = -100  # cross entropy skips labels of this value


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids of a prompt and of what follows it, the stop token included."""

    prompt: list[int]
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


def draw(rng: random.Random, stage: Stage) -> tuple[Dialog, bool]:
    """Return a random dialog of a stage and whether the model shall think first."""
    makers = (
        plain,
        unneeded,
        lambda one: calling(one, stage.requests),
        lambda one: answering(one, stage.requests),
    )
    return rng.choices(makers, stage.mix)[0](rng), rng.random() < 0.7


def texts(tokenizer: PreTrainedTokenizerBase, dialog: Dialog, thinking: bool) -> tuple[str, str]:
    """Return the prompt as the chat template renders it, and the completion."""
    render = tokenizer.apply_chat_template
    options = {"tools": dialog.tools or None, "tokenize": False, "enable_thinking": thinking}
    prompt = render(dialog.messages, add_generation_prompt=True, **options)
    calls = [{"function": {"name": name, "arguments": arguments}} for name, arguments in dialog.calls]
    last = {"role": "assistant", "reasoning_content": dialog.thought, "content": dialog.answer, "tool_calls": calls}
    whole = render([*dialog.messages, last], **options)
    if not thinking:
        whole = whole.replace(f"<think>{dialog.thought}</think>{dialog.answer}", f"</think>{dialog.answer}")
    assert whole.startswith(prompt), (prompt, whole)
    return prompt, whole[len(prompt) :] + ("<|observation|>" if calls else "<|user|>")


def sample(tokenizer: PreTrainedTokenizerBase, rng: random.Random, stage: Stage) -> Sample:
    """Return a random sample."""
    prompt, completion = texts(tokenizer, *draw(rng, stage))
    return Sample(tokenizer(prompt)["input_ids"], tokenizer(completion)["input_ids"])


def batches(
    tokenizer: PreTrainedTokenizerBase, rng: random.Random, stage: Stage, tokens: int, pool: int = 1024
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield endless batches (ids [B, T], labels [B, T]) of about `tokens` tokens, padded on the right.

    Samples are drawn `pool` at a time and sorted, so that a batch holds samples of like lengths.
    """
    while True:
        samples = sorted((sample(tokenizer, rng, stage) for _ in range(pool)), key=len)
        groups: list[list[Sample]] = [[]]
        for one in samples:
            if len(one) * (len(groups[-1]) + 1) > tokens:
                groups.append([])
            groups[-1].append(one)
        rng.shuffle(groups)
        yield from (_pad(group) for group in groups if group)


def _pad(group: list[Sample]) -> tuple[Tensor, Tensor]:
    width = max(map(len, group))
    ids = torch.zeros(len(group), width, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for row, one in enumerate(group):
        ids[row, : len(one)] = torch.tensor(one.prompt + one.completion)
        # Logits at position t are compared with the label at t: the token after it.
        labels[row, len(one.prompt) - 1 : len(one) - 1] = torch.tensor(one.completion)
    return ids, labels
