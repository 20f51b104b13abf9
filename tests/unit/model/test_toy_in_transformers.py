"""transformers loads the toy with its own Auto classes and finds nothing missing."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from glm5_model.toy import write_toy

TEXTS = ["Hello, world!\n\n  12345", "naïve café, 你好世界 👩‍💻", "\ttabs\r\nand\x00bytes", ""]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("variant", "dtype"), [("5.0", torch.float32), ("5.2", torch.bfloat16)])
def test_the_model_loads_with_every_tensor_and_answers_variously(
    tmp_path: Path, variant: str, dtype: torch.dtype
) -> None:
    folder = write_toy(tmp_path / "toy", variant, dtype)
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(model).__name__ == "GlmMoeDsaForCausalLM"
    answers = []
    for seed in range(3):
        prompt = torch.randint(0, 256, (1, 80), generator=torch.Generator().manual_seed(seed))
        output = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=32, do_sample=False)
        answers.append(tuple(output[0, 80:].tolist()))
    assert len(set(answers)) == 3
    assert all(len(set(answer)) >= len(answer) // 3 for answer in answers), answers


def test_the_next_token_layer_is_the_only_thing_that_transformers_does_not_know(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy", mtp=True, num_dense_layers=1, num_sparse_layers=1)
    _, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert {key.split(".")[2] for key in report["unexpected_keys"]} == {"2"}


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_loads_and_gives_text_back(tmp_path: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_toy(tmp_path / "toy", num_sparse_layers=1))
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


def test_special_tokens_vanish_on_request_and_markup_does_not(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_toy(tmp_path / "toy", num_sparse_layers=1))
    ids = tokenizer("<|user|><think>a</think><tool_call>f</tool_call><|observation|>")["input_ids"]
    assert len(ids) == 8
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>a</think><tool_call>f</tool_call>"
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.padding_side == "left"
