"""Write what the values.yaml of the charts imply, or check it: a README each, and the schema of glm5-deployment.

The schema of a deployment's values is that of the resource, so that `helm install` refuses what the API server would.

Usage: python tools/gen_chart_values.py [--check]
"""

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from glm5_spec.resource import GLM5Deployment
from glm5_spec.resource.structural import structural

ROOT = Path(__file__).parents[1]
CHARTS = ROOT / "charts"
NOT_VALUES = ("images",)
INSTALL = {
    "glm5-operator": """```
helm install glm5-operator charts/glm5-operator -n glm5-system --create-namespace
helm upgrade glm5-operator charts/glm5-operator -n glm5-system      # upgrades the CRDs too; restarts no model pod
helm uninstall glm5-operator -n glm5-system                         # leaves the CRDs and everything that serves
helm install other charts/glm5-operator -n glm5-system --take-ownership   # again, under another name
```""",
    "glm5-deployment": """```
helm install my charts/glm5-deployment --set model.source.persistentVolumeClaim.claimName=glm5-model
kubectl wait glm5/my --for=condition=Ready --timeout=1h
helm test my --logs                                                 # asks the model a question
```""",
}


def files() -> dict[Path, str]:
    """Return the text of each generated file."""
    found = {CHARTS / name / "README.md": readme(name) for name in INSTALL}
    schema = json.dumps(deployment_schema(), indent=1) + "\n"
    return found | {CHARTS / "glm5-deployment/values.schema.json": schema}


def readme(name: str) -> str:
    """Return the README of a chart."""
    chart = yaml.safe_load((CHARTS / name / "Chart.yaml").read_text())
    rows = "\n".join(
        f"| `{key}` | `{value}` | {words} |" for key, value, words in values(CHARTS / name / "values.yaml")
    )
    return (
        f"# {name}\n\n{chart['description']}\n\n{INSTALL[name]}\n\n"
        f"| value | default | meaning |\n|---|---|---|\n{rows}\n\n"
        "Written by tools/gen_chart_values.py from values.yaml.\n"
    )


def values(path: Path) -> list[tuple[str, str, str]]:
    """Return (key, default, words) of each value that has a `# --` comment above it."""
    defaults, rows = yaml.safe_load(path.read_text()), []
    parents: list[tuple[int, str]] = []
    words = ""
    for line in path.read_text().splitlines():
        text = line.strip()
        if text.startswith("# --"):
            words = text.removeprefix("# --").strip()
        elif text.startswith("#"):
            words += f" {text.removeprefix('#').strip()}" if words else ""
        elif ":" in text:
            depth = len(line) - len(line.lstrip())
            parents = [one for one in parents if one[0] < depth] + [(depth, text.split(":")[0])]
            if words:
                keys = [key for _, key in parents]
                rows.append((".".join(keys), json.dumps(_at(defaults, keys)), words.replace("|", "\\|")))
            words = ""
    return rows


def deployment_schema() -> dict[str, Any]:
    """Return the schema of the values of glm5-deployment."""
    spec = _closed(copy.deepcopy(structural(GLM5Deployment)["properties"]["spec"]))
    properties = {key: value for key, value in spec["properties"].items() if key not in NOT_VALUES}
    texts = {key: {"type": "string"} for key in ("runtime", "gateway", "tag")}
    policy = {"enum": ["Always", "IfNotPresent", "Never"]}
    properties["images"] = _closed({"type": "object", "properties": {**texts, "pullPolicy": policy}})
    properties["name"] = {"type": "string", "maxLength": 32}
    test = {"question": {"type": "string", "minLength": 1}, "patienceSeconds": {"type": "integer", "minimum": 1}}
    properties["test"] = _closed({"type": "object", "properties": test})
    properties["global"] = {"type": "object"}
    source = properties["model"]["properties"]["source"]
    source |= {"minProperties": 1, "maxProperties": 1}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": False}
    return {**head, "required": spec["required"], "properties": dict(sorted(properties.items()))}


def _closed(node: dict[str, Any]) -> dict[str, Any]:
    """Return the node refusing what it does not name, without what only Kubernetes reads."""
    found = {key: value for key, value in node.items() if not key.startswith("x-kubernetes") and key != "default"}
    if "properties" in found:
        found["properties"] = {key: _closed(value) for key, value in found["properties"].items()}
        found["additionalProperties"] = False
    elif isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = _closed(found["additionalProperties"])
    if "items" in found:
        found["items"] = _closed(found["items"])
    return found


def _at(tree: Any, keys: list[str]) -> Any:
    for key in keys:
        tree = tree[key]
    return tree


def main() -> int:
    """Generate, or check with --check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is not current")
    arguments = parser.parse_args()
    want = files()
    if arguments.check:
        stale = [str(p.relative_to(ROOT)) for p, text in want.items() if not p.is_file() or p.read_text() != text]
        print(f"not current: {', '.join(stale)}; run make generate" if stale else "charts are current")
        return bool(stale)
    for path, content in want.items():
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
