"""How much of a text's end may still become a tag."""

from collections.abc import Iterable


def held_back(text: str, tags: Iterable[str]) -> int:
    """Return the length of the longest end of `text` that is a proper beginning of one of `tags`.

    That many characters must wait for more text; all before them is decided.
    """
    return max((_overlap(text, tag) for tag in tags), default=0)


def _overlap(text: str, tag: str) -> int:
    """Return the length of the longest end of `text` with which `tag` begins, `tag` itself excluded."""
    for length in range(min(len(text), len(tag) - 1), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0


def first_of(text: str, tags: Iterable[str]) -> tuple[int, str] | None:
    """Return place and tag of the first of `tags` in `text`, None if there is none; on a tie the longer tag."""
    found = [(text.find(tag), -len(tag), tag) for tag in tags if tag in text]
    if not found:
        return None
    place, _, tag = min(found)
    return place, tag
