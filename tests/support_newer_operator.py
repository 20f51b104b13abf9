"""An operator of another version: the image built here with a renderer that adds an annotation to every pod."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cluster import cache, engine, images, node_load, wheels

STEP = "newer-operator"
ANNOTATION = "example.com/rendered-by"
RENDERER = wheels.REPOSITORY / "operator" / "glm5_operator" / "manifests" / "template.py"
ADDED = f"""

_template = template


def template(*args: Any) -> dict[str, Any]:
    found = _template(*args)
    found["metadata"].setdefault("annotations", {{}})["{ANNOTATION}"] = "the next version"
    return found
"""
DOCKERFILE = f"""FROM {images.tag("operator")}
COPY template.py /opt/glm5/glm5_operator/manifests/template.py
"""


def build() -> str:
    """Build it, put it onto the workers and return its name."""
    name = images.tag("operator").replace(":dev", ":newer")
    with tempfile.TemporaryDirectory(prefix="image-", dir=cache.root()) as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "template.py").write_text(RENDERER.read_text() + ADDED)
        (context / "template.py").chmod(0o644)
        engine.docker(STEP, "build", "-q", f"--tag={name}", context)
    node_load.load([name])
    return name
