"""Tool argument values: the model writes text, the declared schema says what it means."""

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

_MAX_LITERAL = 100_000  # characters: ast is slow and recursive, JSON of that length is not


def is_plain_string(schema: Any, root: Any = None) -> bool:
    """Return whether a value of `schema` can be nothing but a string, so that its text may be streamed verbatim."""
    return _types(schema, root if root is not None else schema, 0) == {"string"}


def parse_value(text: str, schema: Any, root: Any = None) -> Any:
    """Return the value that `text` stands for.

    A plain string stays verbatim. Else: JSON, then a Python literal, then the raw string. Where the schema allows
    strings among others, a reading of a type that it does not name is the raw string too.
    """
    types = _types(schema, root if root is not None else schema, 0)
    if types == {"string"}:
        return text
    for read in (_json, _literal):
        try:
            value = read(text)
            dump(value)  # 1e999 is JSON, but its value is not
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return value if "string" not in types or _type_of(value) in types else text
    return text


def dump(value: Any) -> str:
    """Return `value` as JSON with Unicode left as it is; lone surrogates are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def _json(text: str) -> Any:
    """Return the JSON value of `text`; NaN and Infinity are none."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    """Refuse NaN and Infinity."""
    raise ValueError(f"{name} is no JSON")


def _literal(text: str) -> Any:
    """Return the value of a Python literal that JSON can say too."""
    if len(text) > _MAX_LITERAL:
        raise ValueError("too long")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape is the model's, not ours
        value = ast.literal_eval(text.strip())
    return json.loads(json.dumps(value, allow_nan=False))  # tuples become lists, keys become strings


def _type_of(value: Any) -> str:
    """Return the JSON schema type of `value`."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _types(schema: Any, root: Any, depth: int) -> set[str]:
    """Return the types that `schema` allows; empty means any. "number" brings "integer" along."""
    if not isinstance(schema, Mapping) or depth > 16:
        return set()
    if isinstance(reference := schema.get("$ref"), str):
        return _types(_resolve(reference, root), root, depth + 1)
    if (named := schema.get("type")) is not None:
        listed = named if isinstance(named, list) else [named]
        types = {name for name in listed if isinstance(name, str)}
        return types | {"integer"} if "number" in types else types
    for union in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(union), list):
            found = [_types(branch, root, depth + 1) for branch in branches]
            return set().union(*found) if all(found) else set()
    if isinstance(values := schema.get("enum"), list) and values:
        return {_type_of(value) for value in values}
    return {_type_of(schema["const"])} if "const" in schema else set()


def _resolve(reference: str, root: Any) -> Any:
    """Return what a local `$ref` names, None if there is nothing."""
    node = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node
