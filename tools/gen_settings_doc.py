"""Write docs/settings.md from the settings models, or check that it is current.

Usage: python tools/gen_settings_doc.py [--check]
"""

import argparse
import inspect
import re
import sys
from pathlib import Path

from pydantic import BaseModel

from glm5_spec.settings import Discovery, GatewaySettings, RoleSettings, ShardSettings, Telemetry, WorkerSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# Settings

Each role reads one JSON file (`python -m glm5_decode --settings FILE`), which `glm5 up` and the operator write.
`glm5 up --set ROLE.FIELD=VALUE` changes a field. GLM5_NAME, GLM5_HOST, GLM5_SHARD and GLM5_GROUP in the environment
override `name`, `advertise_host`, `shard` and `group`. Written by `make generate`.
"""
MODELS: tuple[type[BaseModel], ...] = (
    RoleSettings,
    WorkerSettings,
    ShardSettings,
    GatewaySettings,
    Discovery,
    Telemetry,
)


def notes(model: type[BaseModel]) -> dict[str, str]:
    """Return field to the string under it in the source."""
    source = inspect.getsource(model)
    return dict(re.findall(r'^    (\w+): [^\n]+\n    """(.+?)"""', source, re.M | re.S))


def section(model: type[BaseModel]) -> str:
    """Return heading and table of one model, without what it inherits."""
    words = notes(model)
    rows = []
    for name, field in model.model_fields.items():
        if name not in model.__annotations__ or name == "role":
            continue
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
        rows.append(f"| `{name}` | {default} | {' '.join(words.get(name, '').split())} |")
    summary = (model.__doc__ or "").splitlines()[0]
    return (
        f"\n## {model.__name__}\n\n{summary}\n\n| field | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def main() -> int:
    """Generate, or check with --check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    page = HEAD + "".join(section(model) for model in MODELS)
    if not parser.parse_args().check:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        print("docs/settings.md is not current; run make generate")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
