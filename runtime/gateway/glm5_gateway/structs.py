"""Struct to JSON-like values and back. A Struct knows doubles only: whole numbers become integers again."""

from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from glm5_gateway.errors import invalid

_MAX_DEPTH = 64


def as_dict(struct: Struct) -> dict[str, Any]:
    """Return `struct` as a dict.

    Raises:
        InvalidRequest: it is nested too deeply.
    """
    return {key: _from_value(value, 1) for key, value in struct.fields.items()}


def as_struct(value: dict[str, Any]) -> Struct:
    """Return `value`, made of JSON types, as a Struct."""
    struct = Struct()
    for key, one in value.items():
        _set(struct.fields[key], one)
    return struct


def _from_value(value: Value, depth: int) -> Any:
    """Return one value."""
    if depth > _MAX_DEPTH:
        raise invalid(None, "the body is nested too deeply", f"{_MAX_DEPTH} levels are allowed", "nest it less")
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "struct_value":
        return {key: _from_value(one, depth + 1) for key, one in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_from_value(one, depth + 1) for one in value.list_value.values]
    return getattr(value, kind) if kind in ("string_value", "bool_value") else None


def _set(target: Value, value: Any) -> None:
    """Write one value."""
    if value is None:
        target.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, dict):
        target.struct_value.CopyFrom(as_struct(value))
    else:
        target.list_value.CopyFrom(ListValue())
        for one in value:
            _set(target.list_value.values.add(), one)
