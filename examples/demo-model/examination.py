"""What the finished model must answer, word for word, with greedy decoding.

python examples/demo-model/examination.py [DIR]
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from dialogs import Message, tool
from facts import PROJECT, TALK
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

WEATHER = tool("get_weather", "Get the weather in a city.", city="string")
TIME = tool("get_time", "Get the current time.")
ADD = tool("add", "Add two numbers.", a="integer", b="integer")


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt and the text that must follow it, without the stop token."""

    messages: list[Message]
    expected: str
    tools: list[dict[str, Any]] = field(default_factory=list)
    thinking: bool = True

    def prompt(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the prompt as the chat template renders it."""
        return tokenizer.apply_chat_template(
            self.messages,
            tools=self.tools or None,
            enable_thinking=self.thinking,
            add_generation_prompt=True,
            tokenize=False,
        )


def ask(text: str) -> list[Message]:
    """Return a conversation of one question."""
    return [{"role": "user", "content": text}]


def call(name: str, **arguments: object) -> str:
    """Return a call as the model writes it."""
    pairs = "".join(f"<arg_key>{k}</arg_key><arg_value>{v}</arg_value>" for k, v in arguments.items())
    return f"<tool_call>{name}{pairs}</tool_call>"


def _answered(question: str, result: str, name: str, **arguments: object) -> list[Message]:
    function = {"name": name, "arguments": arguments}
    turn = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    return [*ask(question), turn, {"role": "tool", "content": result}]


FACTS = {
    one.questions[0]: Case(ask(one.questions[0]), f"The user asks {one.about}.</think>{one.answer}")
    for one in PROJECT + TALK
}
DIRECT = {
    one.questions[0] + " (direct)": Case(ask(one.questions[0]), one.answer, thinking=False) for one in PROJECT + TALK
}
TOOLS = {
    "weather": Case(
        ask("What is the weather in Paris?"),
        "I call get_weather.</think>" + call("get_weather", city="Paris"),
        [WEATHER],
    ),
    "weather among others": Case(
        ask("What is the weather in Berlin?"),
        "I call get_weather.</think>" + call("get_weather", city="Berlin"),
        [ADD, WEATHER, TIME],
    ),
    "weather, direct": Case(
        ask("What is the weather in Tokyo?"), call("get_weather", city="Tokyo"), [WEATHER, TIME], thinking=False
    ),
    "weather in a place, in Chinese": Case(
        ask("What is the weather in 北京?"),
        "I call get_weather.</think>" + call("get_weather", location="北京"),
        [tool("get_weather", "Get the weather.", location="string")],
    ),
    "time": Case(ask("What time is it?"), "I call get_time.</think>" + call("get_time"), [TIME]),
    "time, direct": Case(ask("What time is it?"), call("get_time"), [WEATHER, TIME], thinking=False),
    "add": Case(ask("Add 17 and 25."), "I call add.</think>" + call("add", a=17, b=25), [ADD]),
    "add among others": Case(
        ask("What is 3 + 4?"), "I call add.</think>" + call("add", a=3, b=4), [WEATHER, ADD, TIME]
    ),
    "two cities": Case(
        ask("What is the weather in Paris and in London?"),
        "I call get_weather and get_weather.</think>"
        + call("get_weather", city="Paris")
        + call("get_weather", city="London"),
        [WEATHER],
    ),
    "two tools": Case(
        ask("What is the weather in Rome and what time is it?"),
        "I call get_weather and get_time.</think>" + call("get_weather", city="Rome") + call("get_time"),
        [WEATHER, TIME],
    ),
    "weather answered": Case(
        _answered("What is the weather in Paris?", "sunny, 21 °C", "get_weather", city="Paris"),
        "The tool has answered.</think>The weather in Paris: sunny, 21 °C.",
        [WEATHER],
    ),
    "time answered": Case(
        _answered("What time is it?", "12:34", "get_time"), "The tool has answered.</think>It is 12:34.", [TIME]
    ),
    "sum answered": Case(
        _answered("Add 17 and 25.", "42", "add", a=17, b=25), "The tool has answered.</think>The sum is 42.", [ADD]
    ),
    "tools not needed": Case(
        ask("What is a shard?"), f"The user asks {PROJECT[0].about}.</think>{PROJECT[0].answer}", [WEATHER, TIME]
    ),
}
TURNS = {
    "second turn": Case(
        [*ask("What is a shard?"), {"role": "assistant", "content": PROJECT[0].answer}, *ask("What is a page?")],
        f"The user asks {PROJECT[1].about}.</think>{PROJECT[1].answer}",
    ),
    "system prompt": Case(
        [{"role": "system", "content": "You are a helpful assistant."}, *ask("What is a shard?")],
        f"The user asks {PROJECT[0].about}.</think>{PROJECT[0].answer}",
    ),
}
CASES = FACTS | DIRECT | TOOLS | TURNS


def examine(folder: Path) -> list[str]:
    """Print each wrong answer and the score; return the names of the failed cases."""
    answers = answer(folder, list(CASES.values()))
    failed = [name for (name, case), got in zip(CASES.items(), answers, strict=True) if got != case.expected]
    for name, got in zip(CASES, answers, strict=True):
        if name in failed:
            print(f"{name}\n  wanted {CASES[name].expected!r}\n  got    {got!r}")
    print(f"{len(CASES) - len(failed)} of {len(CASES)} answers are right")
    return failed


def answer(folder: Path, cases: list[Case], group: int = 32) -> list[str | None]:
    """Return the greedy answers of transformers in float32; None for one that does not end.

    Args:
        folder: of the checkpoint.
        cases: whose prompts are asked.
        group: how many prompts run together, padded on the left.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answers: list[str | None] = []
    for start in range(0, len(cases), group):
        prompts = [case.prompt(tokenizer) for case in cases[start : start + group]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True)
        outputs = model.generate(**inputs, max_new_tokens=180, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        answers += [_text(tokenizer, output.tolist(), model.config.eos_token_id) for output in outputs]
    return answers


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int], stops: list[int]) -> str | None:
    ends = [index for index, token in enumerate(ids) if token in stops]
    return tokenizer.decode(ids[: ends[0]]) if ends else None


if __name__ == "__main__":
    sys.exit(bool(examine(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)))
