"""Write the fields of the resources into docs/operator.md, between its two markers, or check that they are current.

Usage: python tools/gen_resource_doc.py [--check]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glm5_spec.resource import ROLE_NAMES
from glm5_spec.resource.crd import crds

PAGE = Path(__file__).parents[1] / "docs" / "operator.md"
BEGIN, END = "<!-- fields: written by tools/gen_resource_doc.py -->", "<!-- end of fields -->"
Row = tuple[str, str, str]


def section() -> str:
    """Return the tables of all kinds."""
    return "\n".join(_kind(crd) for crd in crds())


def _kind(crd: dict[str, Any]) -> str:
    kind, schema = crd["spec"]["names"]["kind"], crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    every = [row for name, node in schema["properties"].items() if name not in _OURS for row in _rows(name, node)]
    rows = _merged(every)
    body = "\n".join(f"| `{path}` | {kind_} | {words} |" for path, kind_, words in rows)
    rules = "\n".join(f"- {message}" for message in sorted(set(_rules(schema))))
    text = f"### {kind}\n\n{schema['description']}\n\n| field | type, default | meaning |\n|---|---|---|\n{body}\n"
    return text + (
        f"\nRefused, with these words, where a rule over several fields is broken:\n\n{rules}\n" if rules else ""
    )


_OURS = ("apiVersion", "kind", "metadata")


def _rows(path: str, node: dict[str, Any]) -> Iterator[Row]:
    """Return the row of a field and those of the fields below it."""
    yield path, _type(node), node.get("description", "").replace("|", "\\|")
    inner = node.get("items", node)
    suffix = "[]" if "items" in node else ""
    for name, below in inner.get("properties", {}).items():
        yield from _rows(f"{path}{suffix}.{name}", below)


def _merged(rows: list[Row]) -> list[Row]:
    """Return the rows with those that several roles share written once: spec.ROLE.x, or with the names of the roles."""
    roles: dict[Row, list[str]] = {}
    for row in rows:
        role, shared = _shared(row)
        if role:
            roles.setdefault(shared, []).append(role)
    found: list[Row] = []
    for row in rows:
        role, shared = _shared(row)
        names = roles.get(shared, [])
        if len(names) < 2:
            found.append(row)
        elif role == names[0]:
            path, kind, words = shared
            only = "" if len(names) == len(ROLE_NAMES) else f" ({', '.join(names)})"
            found.append((path, kind, words + only))
    return found


def _shared(row: Row) -> tuple[str, Row]:
    """Return the role of a row and the row for any role; no role where it is about none, or is the section itself."""
    path, kind, words = row
    parts = path.split(".")
    if len(parts) < 3 or parts[0] != "spec" or parts[1] not in ROLE_NAMES:
        return "", row
    return parts[1], (".".join(["spec", "ROLE", *parts[2:]]), kind, words)


def _type(node: dict[str, Any]) -> str:
    """Return type, bounds and default in few words."""
    if "enum" in node:
        text = " \\| ".join(map(str, node["enum"]))
    elif node.get("x-kubernetes-int-or-string"):
        text = "quantity"
    elif "additionalProperties" in node:
        text = "map"
    elif node.get("type") == "array":
        text = f"list of {node['items'].get('type', 'quantity')}"
    else:
        text = node["type"]
    bounds = [node[key] for key in ("minimum", "maximum") if key in node]
    text += f" {bounds[0]}..{bounds[1]}" if len(bounds) == 2 else ""
    default = node.get("default")
    simple = default is not None and not isinstance(default, dict | list)
    return text + (f", `{json.dumps(default)}`" if simple and default != "" else "")


def _rules(node: dict[str, Any]) -> Iterator[str]:
    yield from (rule["message"] for rule in node.get("x-kubernetes-validations", ()))
    for below in (*node.get("properties", {}).values(), *[node[key] for key in ("items",) if key in node]):
        yield from _rules(below)


def page(text: str) -> str:
    """Return the page with the part between the markers written anew.

    Raises:
        ValueError: a marker is missing.
    """
    before, found_begin, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found_begin or not found_end:
        raise ValueError(f"{PAGE} lacks the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{section()}\n{END}{after}"


def main() -> int:
    """Generate, or check with --check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is not current")
    arguments = parser.parse_args()
    text = PAGE.read_text()
    fresh = page(text)
    if arguments.check:
        print("docs/operator.md is current" if text == fresh else "not current: docs/operator.md; run make generate")
        return text != fresh
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
