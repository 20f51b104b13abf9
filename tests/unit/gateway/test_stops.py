"""Stop strings end the text wherever it is cut, and hold back no more than they must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm5_gateway.text.stops import StopStrings
from unit.gateway.support import cuts


def run(parts, stops, **options):
    filtered = StopStrings(stops, **options)
    shown = "".join(filtered.push(part) for part in parts)
    return shown + filtered.finish(), filtered.matched


@pytest.mark.parametrize(
    ("text", "stops", "shown", "matched"),
    [
        ("one two three", ["two"], "one ", "two"),
        ("one two", ["tow"], "one two", None),
        ("aaab", ["aab"], "a", "aab"),
        ("ababac", ["abac"], "ab", "abac"),
        ("x\n\ny", ["\n\n", "\n"], "x", "\n\n"),
        ("日本語", ["本"], "日", "本"),
        ("tw", ["two"], "tw", None),
        ("", ["a"], "", None),
        ("end", [], "end", None),
        ("first second", ["second", "first"], "", "first"),
    ],
)
def test_the_first_stop_string_ends_the_text(text, stops, shown, matched):
    assert run([text], stops) == (shown, matched)


@pytest.mark.parametrize("text", ["one two three", "aaab", "ababac"])
def test_cutting_the_text_changes_nothing(text):
    for stop in ("two", "aab", "abac", "zzz"):
        assert {run(parts, [stop]) for parts in cuts(text)} == {run([text], [stop])}


def test_the_stop_string_may_stay():
    assert run(["a stop b"], ["stop"], include=True) == ("a stop", "stop")


def test_only_what_may_become_a_stop_string_is_held_back():
    filtered = StopStrings(["END"])
    assert [filtered.push(part) for part in ("abc", "dE", "N", "x", "E")] == ["abc", "d", "", "ENx", ""]
    assert filtered.finish() == "E"


def test_before_min_tokens_nothing_is_matched():
    filtered = StopStrings(["ab"])
    assert filtered.push("ab", check=False) == "ab"
    assert filtered.matched is None
    assert filtered.push("ab") == ""
    assert filtered.matched == "ab"


@given(parts=st.lists(st.text("ab", max_size=4), max_size=8), stop=st.text("ab", min_size=1, max_size=4))
def test_any_text_ends_before_its_first_stop_string(parts, stop):
    text = "".join(parts)
    found = text.find(stop)
    expected = (text, None) if found < 0 else (text[:found], stop)
    assert run(parts, [stop]) == expected
