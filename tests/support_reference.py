"""transformers as the judge: is each token of an answer its greedy choice?"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

MARGIN = 1e-4
"""Two logits nearer than this may change places: both are the greatest within the error of fp32."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A token that is not the reference's choice."""

    position: int
    ours: int
    theirs: int
    margin: float
    """How far the reference puts its choice above ours, in logits."""


class Reference:
    """A checkpoint in transformers, fp32, one thread."""

    def __init__(self, path: Path) -> None:
        torch.set_num_threads(1)
        self._model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    @torch.no_grad()
    def differences(self, prompt: list[int], output: list[int]) -> list[Difference]:
        """Return where `output` is not greedy, the reference being fed our own tokens (teacher forcing)."""
        ids = torch.tensor([[*prompt, *output[:-1]]])
        logits = self._model(ids, logits_to_keep=len(output)).logits[0].float()  # [output, vocabulary]
        found = []
        for position, (row, ours) in enumerate(zip(logits, output, strict=True)):
            theirs = int(row.argmax())
            if theirs != ours:
                found.append(Difference(position, ours, theirs, float(row[theirs] - row[ours])))
        return found
