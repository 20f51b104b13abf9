"""Write the CustomResourceDefinitions of glm5_spec.resource into the operator's chart, or check that they are current.

Usage: python tools/gen_crds.py [--check]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from glm5_spec.resource.crd import crds

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "charts/glm5-operator/files/crds"
LIMIT_BYTES = 100_000
"""Above this `kubectl apply` and Helm begin to fail elsewhere; keep the sum of all CRDs below."""

STYLE: dict[str, Any] = {"sort_keys": False, "width": 120, "allow_unicode": True}


class _Plain(yaml.SafeDumper):
    """Writes out what occurs twice: anchors are hard to read and not every tool knows them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: nothing is shared."""
        return True


def files() -> dict[Path, str]:
    """Return the text of each file."""
    return {FOLDER / f"{crd['metadata']['name']}.yaml": text(crd) for crd in crds()}


def text(crd: dict[str, Any]) -> str:
    """Return the YAML of one CRD."""
    return (
        f"# Written by tools/gen_crds.py; change glm5_spec.resource instead.\n{yaml.dump(crd, Dumper=_Plain, **STYLE)}"
    )


def main() -> int:
    """Generate, or check with --check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is not current")
    arguments = parser.parse_args()
    size = sum(len(json.dumps(crd)) for crd in crds())
    if size >= LIMIT_BYTES:
        print(f"the CRDs have {size} bytes of JSON; {LIMIT_BYTES} are allowed: shorten glm5_spec.resource")
        return 1
    want = files()
    if arguments.check:
        stale = [
            str(path.relative_to(ROOT))
            for path, content in want.items()
            if not path.is_file() or path.read_text() != content
        ]
        stale += [str(path.relative_to(ROOT)) for path in FOLDER.glob("*") if path not in want]
        print(f"not current: {', '.join(stale)}; run make generate" if stale else f"CRDs are current ({size} bytes)")
        return bool(stale)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.yaml"):
        path.unlink()
    for path, content in want.items():
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
