"""Tool calls are the same however their text is cut, and their arguments are always JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm5_gateway.text.tool_calls import CallArguments, CallEnd, CallStart, Content, ToolCallParser
from unit.gateway.support import cuts

TOOLS = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"type": ["string", "null"]},
            "where": {"$ref": "#/$defs/place"},
            "any": {},
        },
        "$defs": {"place": {"type": "object"}},
    },
    "now": {"type": "object", "properties": {}},
}


def call(name, **arguments):
    pairs = "".join(f"<arg_key>{key}</arg_key><arg_value>{value}</arg_value>" for key, value in arguments.items())
    return f"<tool_call>{name}{pairs}</tool_call>"


def parse(parts, complete=True):
    """Return (content, [(name, arguments text, ended)])."""
    parser = ToolCallParser(TOOLS)
    events = [event for part in parts for event in parser.push(part)] + parser.finish(complete=complete)
    content, calls = "", []
    for event in events:
        if isinstance(event, Content):
            content += event.text
        elif isinstance(event, CallStart):
            assert event.index == len(calls)
            calls.append([event.name, "", False])
        elif isinstance(event, CallArguments):
            calls[event.index][1] += event.text
        elif isinstance(event, CallEnd):
            calls[event.index][2] = True
    return content, [tuple(one) for one in calls]


CASES = [
    ("no call", "just text", "just text", []),
    ("one call", call("weather", city="Oslo"), "", [("weather", {"city": "Oslo"})]),
    ("no arguments", call("now"), "", [("now", {})]),
    ("text before", "Let me see.\n" + call("now"), "Let me see.\n", [("now", {})]),
    ("text after", call("now") + "done", "done", [("now", {})]),
    ("space around", "\n\n" + call("now") + "\n" + call("now") + "\n", "", [("now", {}), ("now", {})]),
    (
        "two at once",
        call("now") + call("weather", city="A", days="2"),
        "",
        [("now", {}), ("weather", {"city": "A", "days": 2})],
    ),
    ("newline after the name", "<tool_call>now\n</tool_call>", "", [("now", {})]),
    (
        "newlines between",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>",
        "",
        [("weather", {"city": "Oslo"})],
    ),
    ("unknown tool", call("other", x="1", y="abc"), "", [("other", {"x": 1, "y": "abc"})]),
    ("undeclared argument", call("weather", new="[1, 2]"), "", [("weather", {"new": [1, 2]})]),
    ("digits in a string", call("weather", city="42"), "", [("weather", {"city": "42"})]),
    ("string or null", call("weather", unit="null"), "", [("weather", {"unit": None})]),
    ("string of digits or null", call("weather", unit="7"), "", [("weather", {"unit": "7"})]),
    ("an object", call("weather", where='{"a": {"b": "ü"}}'), "", [("weather", {"where": {"a": {"b": "ü"}}})]),
    (
        "a Python literal",
        call("weather", any="{'a': True, 'b': (1, None)}"),
        "",
        [("weather", {"any": {"a": True, "b": [1, None]}})],
    ),
    ("not what is declared", call("weather", days="many"), "", [("weather", {"days": "many"})]),
    (
        "tags in a value",
        call("weather", city="a <b> </arg_value </tool_call> x"),
        "",
        [("weather", {"city": "a <b> </arg_value </tool_call> x"})],
    ),
    ("quotes and lines", call("weather", city='"a"\n\\b\t\x01'), "", [("weather", {"city": '"a"\n\\b\t\x01'})]),
    ("an empty string", call("weather", city=""), "", [("weather", {"city": ""})]),
    ("unicode", call("weather", city="Tromsø 🙊 東京"), "", [("weather", {"city": "Tromsø 🙊 東京"})]),
    (
        "a key twice",
        "<tool_call>weather<arg_key>city</arg_key><arg_value>A</arg_value><arg_key>city</arg_key><arg_value>B</arg_value></tool_call>",
        "",
        [("weather", {"city": "A"})],
    ),
    ("a key without value", "<tool_call>weather<arg_key>city</arg_key></tool_call>", "", [("weather", {})]),
    ("no name", "<tool_call></tool_call>", "<tool_call></tool_call>", []),
    (
        "end forgotten",
        "<tool_call>weather<arg_key>city</arg_key><arg_value>A</arg_value>",
        "",
        [("weather", {"city": "A"})],
    ),
    ("end forgotten before the next", "<tool_call>now\n<tool_call>now</tool_call>", "", [("now", {}), ("now", {})]),
    ("cut in a string", "<tool_call>weather<arg_key>city</arg_key><arg_value>Osl", "", [("weather", {"city": "Osl"})]),
    ("cut in a number", "<tool_call>weather<arg_key>days</arg_key><arg_value>1", "", [("weather", {"days": 1})]),
    ("only a known name", "<tool_call>now", "", [("now", {})]),
    ("only an unknown name", "<tool_call>nobody", "<tool_call>nobody", []),
    ("a lone tag", "a <tool_", "a <tool_", []),
    ("huge numbers", call("weather", any="1e999"), "", [("weather", {"any": "1e999"})]),
    ("no constants", call("weather", any="NaN"), "", [("weather", {"any": "NaN"})]),
    ("a surrogate", call("weather", any='"\\ud800"'), "", [("weather", {"any": "\ud800"})]),
]


@pytest.mark.parametrize(("name", "text", "content", "calls"), CASES, ids=[case[0] for case in CASES])
def test_calls_are_found_however_the_text_is_cut(name, text, content, calls):
    for parts in cuts(text):
        shown, found = parse(parts)
        assert shown == content, parts
        assert [(one[0], json.loads(one[1])) for one in found] == calls, parts
        assert all(one[2] for one in found)


@pytest.mark.parametrize(("name", "text", "content", "calls"), CASES, ids=[case[0] for case in CASES])
def test_a_cut_output_is_never_completed(name, text, content, calls):
    results = {repr(parse(parts, complete=False)) for parts in cuts(text)}
    assert len(results) == 1


def test_a_cut_argument_stays_open():
    text = "<tool_call>weather<arg_key>city</arg_key><arg_value>Osl"
    assert parse([text], complete=False) == ("", [("weather", '{"city": "Osl', False)])


def test_a_string_is_streamed_as_it_comes():
    parser = ToolCallParser(TOOLS)
    parser.push("<tool_call>weather<arg_key>city</arg_key><arg_value>")
    assert parser.push("Os") == [CallArguments(0, '{"city": "Os')]
    assert parser.push('l"') == [CallArguments(0, 'l\\"')]
    assert parser.push("o</arg") == [CallArguments(0, "o")]
    assert parser.push("_value>") == [CallArguments(0, '"')]


@given(
    parts=st.lists(
        st.sampled_from(
            [
                "<tool_call>",
                "</tool_call>",
                "<arg_key>",
                "</arg_key>",
                "<arg_value>",
                "</arg_value>",
                "now",
                "weather",
                "city",
                "days",
                "1",
                "\n",
                " ",
                "<",
                "{",
            ]
        ),
        max_size=14,
    )
)
def test_any_output_gives_whole_arguments_and_does_not_depend_on_cuts(parts):
    whole = parse(["".join(parts)])
    assert parse(parts) == whole
    assert parse(list("".join(parts))) == whole
    for _, arguments, ended in whole[1]:
        assert isinstance(json.loads(arguments), dict)
        assert ended


@given(city=st.text(max_size=30).filter(lambda text: "</arg_value>" not in text), size=st.integers(1, 7))
def test_any_string_comes_through_verbatim(city, size):
    text = call("weather", city=city)
    _, found = parse([text[start : start + size] for start in range(0, len(text), size)])
    assert json.loads(found[0][1]) == {"city": city}
