"""The base of the resources: camelCase outside, snake_case inside, and rules that hold on both sides.

A rule is written twice: as CEL for the API server, which checks it while the operator is down, and as a Python
predicate for `glm5 up -f`. tests/integration/test_crd.py holds every wrong spec against both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Rule:
    """A statement about one object that must hold, or the object is refused with `message`."""

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    """The same in Python; None for a rule about a change (`oldSelf`), which only the API server sees."""


class ResourceModel(BaseModel):
    """A frozen part of a resource that refuses unknown fields and takes no type for another."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        """Raise ValueError with the message of the first rule that does not hold."""
        for rule in self.RULES:
            if rule.holds is not None and not rule.holds(self):
                raise ValueError(rule.message)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the rules to the schema as the API server reads them."""
        schema = handler.resolve_ref_schema(handler(core))
        if cls.RULES:
            schema["x-kubernetes-validations"] = [{"rule": r.cel, "message": r.message} for r in cls.RULES]
        return schema


def keyed_by(key: str) -> dict[str, Any]:
    """Return what a list's schema says where its items are merged by `key`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def one_of(*fields: str) -> str:
    """Return CEL that says that exactly one of `fields` is present."""
    return f"[{', '.join(f'has(self.{field})' for field in fields)}].exists_one(present, present)"


def exactly_one(*values: object) -> bool:
    """Return whether exactly one of `values` is not None."""
    return sum(value is not None for value in values) == 1
