"""Reasoning ends at `</think>`, wherever the text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm5_gateway.text.reasoning import Kind, ReasoningSplitter
from unit.gateway.support import cuts


def split(parts, **options):
    splitter = ReasoningSplitter(**options)
    pieces = [piece for part in parts for piece in splitter.push(part)] + splitter.finish()
    return tuple("".join(piece.text for piece in pieces if piece.kind is kind) for kind in Kind)


CASES = [
    ("plain", "why</think>answer", {"inside": True}, ("why", "answer")),
    ("newlines stay", "\nwhy\n</think>\n\nanswer", {"inside": True}, ("\nwhy\n", "\n\nanswer")),
    ("no end", "why and why", {"inside": True}, ("why and why", "")),
    ("half an end", "why</thi", {"inside": True}, ("why</thi", "")),
    ("repeated start", "<think>why</think>answer", {"inside": True}, ("why", "answer")),
    ("second start", "a<think>b</think>c", {"inside": True}, ("a<think>b", "c")),
    ("second end", "a</think>b</think>c", {"inside": True}, ("a", "b</think>c")),
    ("empty", "</think>answer", {"inside": True}, ("", "answer")),
    ("thinking off", "a</think>b", {"inside": False}, ("", "a</think>b")),
    ("opened by the model", "<think>why</think>b", {"inside": False, "may_open": True}, ("why", "b")),
    ("not opened", "<thin air", {"inside": False, "may_open": True}, ("", "<thin air")),
    (
        "call ends it",
        "why<tool_call>f</tool_call>",
        {"inside": True, "tools": True},
        ("why", "<tool_call>f</tool_call>"),
    ),
    ("no tools, no call", "a<tool_call>b</think>c", {"inside": True}, ("a<tool_call>b", "c")),
    ("less-than signs", "a < b << c</think>d", {"inside": True}, ("a < b << c", "d")),
    ("unicode", "思考🙊</think>答", {"inside": True}, ("思考🙊", "答")),
]


@pytest.mark.parametrize(("name", "text", "options", "expected"), CASES, ids=[case[0] for case in CASES])
def test_reasoning_and_content_are_told_apart_however_the_text_is_cut(name, text, options, expected):
    for parts in cuts(text):
        assert split(parts, **options) == expected, parts


@given(
    parts=st.lists(st.sampled_from(["<", "think", ">", "</", "a", "<think>", "</think>", "<tool_call>"]), max_size=10)
)
def test_no_text_is_lost(parts):
    text = "".join(parts)
    for inside in (True, False):
        reasoning, content = split(parts, inside=inside, tools=True)
        assert split([text], inside=inside, tools=True) == (reasoning, content)
        lost = len(text) - len(reasoning) - len(content)
        assert lost in ((0, len("</think>"), len("<think>"), len("<think></think>")) if inside else (0,))
