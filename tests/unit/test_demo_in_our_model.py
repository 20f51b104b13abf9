"""Our own forward pass gives the demo model's taught answers, experts in process."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tokenizers import Tokenizer

from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PAGE_SIZE, PagedCache
from glm5_model.checkpoint import load_attention, load_experts
from glm5_model.config import ModelConfig
from glm5_model.kernels import kernels_for
from glm5_model.local import run_local
from glm5_model.transformer import Transformer

DEMO = Path(__file__).parents[2] / "examples" / "demo-model"
QUESTIONS = ["What is a shard?", "How do I start it?", "Show me some emoji.", "What is a page? (direct)"]
TOOLS = ["weather among others", "two tools", "add", "weather answered", "second turn"]


class OurModel:
    """Greedy decoding with one sequence and a cache of its own."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.config = ModelConfig.from_dir(DEMO)
        self.kernels = kernels_for("cpu", "invariant", torch.float32)
        self.experts = load_experts(DEMO, range(self.config.num_experts), torch.float32)
        weights = load_attention(DEMO, torch.float32)
        self.transformer = Transformer(self.config, weights, self.kernels)

    @torch.inference_mode()
    def generate(self, prompt: list[int], limit: int) -> list[int]:
        """Return new token ids up to and without the stop token."""
        pages = -(-(len(prompt) + limit) // PAGE_SIZE)
        cache, table = PagedCache(self.config, pages, torch.float32), torch.arange(pages)
        rows, start, output = prompt, 0, []
        for _ in range(limit):
            batch = Batch([SequenceRows(torch.tensor(rows), start, table)])
            logits = run_local(self.transformer.forward(batch, cache), self.experts, self.kernels)
            start += len(rows)
            rows = [int(logits[0].argmax())]
            if rows[0] in self.config.eos_token_ids:
                return output
            output += rows
        raise AssertionError(f"no stop token within {limit} tokens: {output}")


@pytest.fixture(scope="module")
def examination() -> Iterator[ModuleType]:
    """The demo's own list of questions and answers; its modules import each other by bare names."""
    sys.path.insert(0, str(DEMO))
    import examination

    yield examination
    sys.path.remove(str(DEMO))
    for name in ("facts", "dialogs", "examination"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def our_model() -> OurModel:
    return OurModel()


@pytest.mark.parametrize("name", [*QUESTIONS, *TOOLS])
def test_our_model_gives_the_taught_answer(examination: ModuleType, our_model: OurModel, name: str) -> None:
    case = examination.CASES[name]
    prompt = case.prompt(examination.AutoTokenizer.from_pretrained(DEMO))
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    output = our_model.generate(tokenizer.encode(prompt, add_special_tokens=False).ids, limit=120)
    assert tokenizer.decode(output, skip_special_tokens=False) == case.expected
