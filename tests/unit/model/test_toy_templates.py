"""Our chat templates render GLM-5's format, in both variants, exactly."""

from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from glm5_model.toy import write_toy
from glm5_model.toy.write import chat_template

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
TOOLS = (
    "<|system|>\n# Tools\n\nYou may call these functions, one or several at once:\n<tools>\n"
    '{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}\n'
    "</tools>\n\nWrite each call as\n"
    "<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>\n"
    "with one key and value for each argument."
)
CALLS = [
    {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京", "days": 2, "ok": True}}},
    {"type": "function", "function": {"name": "get_time", "arguments": {}}},
]
CALLED = (
    "<tool_call>get_weather<arg_key>city</arg_key><arg_value>北京</arg_value><arg_key>days</arg_key>"
    "<arg_value>2</arg_value><arg_key>ok</arg_key><arg_value>true</arg_value></tool_call>"
    "<tool_call>get_time</tool_call>"
)
QUESTION = [{"role": "user", "content": "Hi"}]
HISTORY = [
    {"role": "user", "content": "One"},
    {"role": "assistant", "reasoning_content": " early ", "content": " first \n"},
    {"role": "user", "content": "Two"},
    {"role": "assistant", "reasoning_content": "late", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": "sunny"},
    {"role": "tool", "content": "12:00"},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    sizes = {"num_dense_layers": 1, "num_sparse_layers": 1, "n_routed_experts": 8}
    return AutoTokenizer.from_pretrained(write_toy(tmp_path_factory.mktemp("toy") / "toy", **sizes))


def render(tokenizer: PreTrainedTokenizerBase, variant: str, messages: list[dict[str, Any]], **options: Any) -> str:
    template = chat_template(variant)
    options = {"add_generation_prompt": True, **options}
    return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)


CASES_5_0 = {
    "question": (QUESTION, {}, "[gMASK]<sop><|user|>Hi<|assistant|><think>"),
    "no thinking": (QUESTION, {"enable_thinking": False}, "[gMASK]<sop><|user|>Hi<|assistant|></think>"),
    "no prompt": (QUESTION, {"add_generation_prompt": False}, "[gMASK]<sop><|user|>Hi"),
    "system": (
        [{"role": "system", "content": "Be kind."}, *QUESTION],
        {},
        "[gMASK]<sop><|system|>Be kind.<|user|>Hi<|assistant|><think>",
    ),
    "parts": (
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        {},
        "[gMASK]<sop><|user|>ab<|assistant|><think>",
    ),
    "tools": (QUESTION, {"tools": [WEATHER]}, f"[gMASK]<sop>{TOOLS}<|user|>Hi<|assistant|><think>"),
    "history": (
        HISTORY,
        {},
        "[gMASK]<sop><|user|>One<|assistant|></think>first<|user|>Two<|assistant|><think>late</think>"
        f"{CALLED}<|observation|><tool_response>sunny</tool_response><tool_response>12:00</tool_response>"
        "<|assistant|><think>",
    ),
    "kept thinking": (
        HISTORY[:3],
        {"clear_thinking": False},
        "[gMASK]<sop><|user|>One<|assistant|><think>early</think>first<|user|>Two<|assistant|><think>",
    ),
    "reasoning inside the content": (
        [*QUESTION, {"role": "assistant", "content": "<think>hm</think>Yes"}],
        {"add_generation_prompt": False},
        "[gMASK]<sop><|user|>Hi<|assistant|><think>hm</think>Yes",
    ),
    "two runs of tool answers": (
        [{"role": "tool", "content": "1"}, {"role": "assistant", "content": "x"}, {"role": "tool", "content": "2"}],
        {"add_generation_prompt": False},
        "[gMASK]<sop><|observation|><tool_response>1</tool_response><|assistant|></think>x"
        "<|observation|><tool_response>2</tool_response>",
    ),
}
MAX = "<|system|>Reasoning Effort: Max"
HIGH = "<|system|>Reasoning Effort: High"
CASES_5_2 = {
    "question": (QUESTION, {}, f"[gMASK]<sop>{MAX}<|user|>Hi<|assistant|><think>"),
    "high": (QUESTION, {"reasoning_effort": "high"}, f"[gMASK]<sop>{HIGH}<|user|>Hi<|assistant|><think>"),
    "low": (QUESTION, {"reasoning_effort": "low"}, f"[gMASK]<sop>{MAX}<|user|>Hi<|assistant|><think>"),
    "no thinking": (QUESTION, {"enable_thinking": False}, "[gMASK]<sop><|user|>Hi<|assistant|><think></think>"),
    "tools": (QUESTION, {"tools": [WEATHER]}, f"[gMASK]<sop>{MAX}{TOOLS}<|user|>Hi<|assistant|><think>"),
    "history": (
        HISTORY[:3],
        {},
        f"[gMASK]<sop>{MAX}<|user|>One<|assistant|><think></think>first<|user|>Two<|assistant|><think>",
    ),
    "image": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "?"}]}],
        {"enable_thinking": False},
        "[gMASK]<sop><|user|><reminder>There is an image here, but you cannot see images. Say so.</reminder>?"
        "<|assistant|><think></think>",
    ),
}


@pytest.mark.parametrize("case", CASES_5_0)
def test_the_template_of_5_0_renders(tokenizer: PreTrainedTokenizerBase, case: str) -> None:
    messages, options, expected = CASES_5_0[case]
    assert render(tokenizer, "5.0", messages, **options) == expected


@pytest.mark.parametrize("case", CASES_5_2)
def test_the_template_of_5_2_renders(tokenizer: PreTrainedTokenizerBase, case: str) -> None:
    messages, options, expected = CASES_5_2[case]
    assert render(tokenizer, "5.2", messages, **options) == expected
