"""Messages become the prompt that the checkpoint's own template makes of them."""

import json

import pytest
from transformers import AutoTokenizer

from glm5_gateway.conversation import render
from glm5_gateway.requests.chat import ChatBody
from glm5_gateway.requests.parse import validated
from glm5_gateway.served import ServedModel
from glm5_gateway.text.template import ChatTemplate
from glm5_gateway.text.thinking import ends_after_thinking, ends_in_thinking
from glm5_wire.errors import InvalidRequest, StartupError
from unit.gateway.support import write_text_files

TOOL = {"type": "function", "function": {"name": "f", "description": "ü", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": "x"}'}}
CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "why"},
    {"role": "tool", "content": "42", "tool_call_id": "c"},
]


def prompt(served, **fields):
    raw = {"messages": [{"role": "user", "content": "hi"}]} | fields
    return render(served, validated(ChatBody, raw), raw)


@pytest.fixture(scope="module", params=["5.0", "5.2"])
def both(request, tmp_path_factory):
    folder = write_text_files(tmp_path_factory.mktemp("variants") / request.param, request.param)
    return folder, ServedModel.from_dir(folder, ["toy"])


@pytest.mark.parametrize("options", [{}, {"enable_thinking": False}, {"clear_thinking": False}, {"tools": [TOOL]}])
def test_prompts_are_those_of_transformers(both, options):
    folder, served = both
    theirs = AutoTokenizer.from_pretrained(folder)
    parsed = json.loads(json.dumps(CONVERSATION))
    parsed[2]["tool_calls"][0]["function"]["arguments"] = json.loads(CALL["function"]["arguments"])
    parsed[2]["reasoning_content"] = parsed[2].pop("reasoning")
    expected = theirs.apply_chat_template(parsed, add_generation_prompt=True, tokenize=False, **options)
    ours = prompt(served, messages=CONVERSATION, **options)
    assert ours == expected
    ids = theirs.apply_chat_template(parsed, add_generation_prompt=True, tokenize=True, return_dict=True, **options)
    assert served.tokenizer.encode(ours) == list(ids["input_ids"])


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_thinking": False},
        {"thinking": {"type": "disabled"}},
        {"reasoning_effort": "none"},
        {"reasoning_effort": "minimal"},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_every_switch_turns_thinking_off(both, fields):
    assert ends_after_thinking(prompt(both[1], **fields))
    assert ends_in_thinking(prompt(both[1]))


@pytest.mark.parametrize(
    ("effort", "word"), [("low", "High"), ("medium", "High"), ("high", "High"), ("xhigh", "Max"), ("max", "Max")]
)
def test_an_effort_becomes_the_next_one_that_the_template_knows(tmp_path, effort, word):
    served = ServedModel.from_dir(write_text_files(tmp_path, "5.2"), ["toy"])
    assert f"Reasoning Effort: {word}" in prompt(served, reasoning_effort=effort)


def test_tool_choice_none_shows_no_tools(served):
    assert "<tools>" in prompt(served, tools=[TOOL])
    assert "<tools>" not in prompt(served, tools=[TOOL], tool_choice="none")


def test_a_developer_is_a_system(served):
    assert prompt(served, messages=[{"role": "developer", "content": "x"}]).startswith("[gMASK]<sop><|system|>x")


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[0].content[0].type",
        ),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "user"}, "messages[0].content"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_a_message_that_cannot_be_shown_is_named(served, message, param):
    with pytest.raises(InvalidRequest) as caught:
        prompt(served, messages=[message])
    assert caught.value.param == param


def test_a_template_that_refuses_is_the_clients_fault():
    template = ChatTemplate("{{ raise_exception('no system here') }}")
    with pytest.raises(InvalidRequest, match="no system here"):
        template.render([], None, {})


def test_a_template_cannot_leave_its_sandbox():
    template = ChatTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(InvalidRequest, match="unsafe"):
        template.render([], None, {})


def test_a_broken_template_is_a_startup_error(tmp_path):
    file = write_text_files(tmp_path) / "chat_template.jinja"
    file.write_text("{% if %}")
    with pytest.raises(StartupError, match=r"chat_template\.jinja"):
        ServedModel.from_dir(tmp_path, ["toy"])


def test_a_template_may_stand_in_the_tokenizers_settings(tmp_path):
    folder = write_text_files(tmp_path)
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}!"}))
    assert prompt(ServedModel.from_dir(folder, ["toy"])) == "hi!"
