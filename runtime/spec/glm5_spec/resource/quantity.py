"""Kubernetes quantities ("500m", "1.5Gi", 2) as type, schema and number."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, StrictInt, StrictStr, WithJsonSchema

PATTERN = r"^([0-9]+(\.[0-9]+)?)(m|[kMGTPE]|[KMGTPE]i)?$"
MAX_LENGTH = 24
MESSAGE = 'is not a quantity such as 2, "500m" or "1.5Gi"'
_UNITS = {"": Decimal(1), "m": Decimal("0.001")}
_UNITS |= {unit: Decimal(1000) ** (i + 1) for i, unit in enumerate("kMGTPE")}
_UNITS |= {f"{unit}i": Decimal(1024) ** (i + 1) for i, unit in enumerate("KMGTPE")}

SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
    "pattern": PATTERN,
    "maxLength": MAX_LENGTH,
}


def number(quantity: int | str) -> Decimal:
    """Return the number that `quantity` stands for.

    Raises:
        ValueError: it is not a quantity, or below 0.
    """
    match = re.fullmatch(PATTERN, str(quantity))
    if match is None or len(str(quantity)) > MAX_LENGTH:
        raise ValueError(f"{quantity!r} {MESSAGE}")
    return Decimal(match.group(1)) * _UNITS[match.group(3) or ""]


def _checked(quantity: int | str) -> int | str:
    number(quantity)
    return quantity


Quantity = Annotated[StrictInt | StrictStr, AfterValidator(_checked), WithJsonSchema(SCHEMA)]
"""An amount of a resource, in Kubernetes' notation."""
