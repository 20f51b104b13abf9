"""Pydantic's JSON schema as the structural schema that an API server takes."""

from typing import Any

from glm5_spec.resource.base import ResourceModel

Schema = dict[str, Any]
_DROPPED = ("title", "discriminator")


def structural(model: type[ResourceModel]) -> Schema:
    """Return the schema of `model` without references, unions with null, and what structural schemas do not know."""
    schema = model.model_json_schema(mode="validation")
    definitions = schema.pop("$defs", {})
    result = _convert(schema, definitions)
    for name in ("apiVersion", "kind"):
        result["properties"][name] = {"type": "string"}
    # Only name and generateName may be restricted here; the API server owns the rest.
    result["properties"]["metadata"] = {"type": "object"}
    result["required"] = sorted(set(result.get("required", ())) - {"metadata"}) or None
    return {key: value for key, value in result.items() if value is not None}


def _convert(schema: Schema, definitions: Schema) -> Schema:
    """Return one node, converted with all below it."""
    node = _inlined(schema, definitions)
    node = {key: value for key, value in node.items() if key not in _DROPPED}
    if node.get("additionalProperties") is False or node.get("additionalProperties") is True:
        del node["additionalProperties"]  # structural schemas prune what they do not name
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if "properties" in node:
        node["properties"] = {key: _convert(value, definitions) for key, value in node["properties"].items()}
    if "items" in node:
        node["items"] = _convert(node["items"], definitions)
    return _default(_map(node, definitions))


def _default(node: Schema) -> Schema:
    """Return the node with a default that is whole (rules are evaluated on it as it stands) and has no null in it."""
    if "default" in node:
        node["default"] = _without_null(node["default"])
        if node["default"] is None:
            del node["default"]
    return node


def _without_null(value: Any) -> Any:
    """Return `value` without what was not given."""
    if isinstance(value, list):
        return [_without_null(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_null(one) for key, one in value.items() if one is not None and one != {} and one != []}
    return value


def _map(node: Schema, definitions: Schema) -> Schema:
    """Return a map's node: keys may be anything here (a rule says what they are), values are typed."""
    pattern = node.pop("patternProperties", None)
    node.pop("propertyNames", None)
    values = next(iter(pattern.values())) if pattern else node.get("additionalProperties")
    if isinstance(values, dict):
        node["additionalProperties"] = _convert(values, definitions)
    return node


def _inlined(schema: Schema, definitions: Schema) -> Schema:
    """Return the node with its reference followed and a union with null reduced to its other side."""
    node = dict(schema)
    if "$ref" in node:
        target = definitions[node.pop("$ref").rsplit("/", 1)[-1]]
        node = _inlined(target, definitions) | node
    if "anyOf" in node and "x-kubernetes-int-or-string" not in node:
        sides = [side for side in node.pop("anyOf") if side.get("type") != "null"]
        if len(sides) != 1:
            raise ValueError(f"a structural schema has no union: {schema}")
        node = _inlined(sides[0], definitions) | node
    return node
