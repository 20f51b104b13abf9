"""Kinds of text that fields hold; each has a pattern and a bound, so that the API server can price the rules."""

from typing import Annotated

from pydantic import StringConstraints

ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)
]
"""The name of another object in the namespace, as Kubernetes allows it."""
Image = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$", min_length=1, max_length=512)]
"""An image with tag or digest."""
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
"""What Kubernetes allows as a label's value."""
QualifiedName = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        min_length=1,
        max_length=317,
    ),
]
"""What Kubernetes allows as the key of a label or annotation, or as the name of a resource."""
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+(/\S*)?$", max_length=2048)]
"""An http or https address."""
