"""The folder layout: one import package per component, the standard library unshadowed, every list equal."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
PACKAGES = sorted(
    path.parent.relative_to(ROOT)
    for pattern in ("protos/*", "operator/*", "runtime/*/*")
    for path in ROOT.glob(f"{pattern}/__init__.py")
)


def test_no_component_folder_is_itself_a_package() -> None:
    shadowing = [str(p.parent) for p in PACKAGES if (ROOT / p.parent / "__init__.py").exists()]
    assert not shadowing, "operator/__init__.py would shadow the standard library's operator"


def test_pyproject_names_every_package_and_root_once() -> None:
    packages = [p.as_posix() for p in PACKAGES]
    roots = [p.parent.as_posix() for p in PACKAGES]
    hatch = CONFIG["hatch"]["build"]
    assert sorted(hatch["targets"]["wheel"]["packages"]) == packages
    assert sorted(hatch["dev-mode-dirs"]) == sorted(roots)
    assert sorted(CONFIG["mypy"]["mypy_path"].split(":")) == sorted(roots)
    assert sorted(CONFIG["importlinter"]["root_packages"]) == sorted(p.name for p in PACKAGES)


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    sources = [path for room in ("operator", "runtime", "tools") for path in (ROOT / room).rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): lines for path in sources if (lines := len(path.read_text().splitlines())) > 300
    }
    assert not long, f"split by noun: {long}"


def test_constraints_pin_plain_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    wrong = [line for line in lines if "+" in line or "@" in line or "==" not in line]
    assert lines
    assert not wrong
