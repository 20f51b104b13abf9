"""Write the Python modules of protos/ beside their sources, or check that they are current.

Usage: python tools/gen_protos.py [--check]
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROTOS = ROOT / "protos"
PATTERN = "glm5/v1/*_pb2*"


def generate(out: Path) -> None:
    """Run protoc with the pinned grpcio-tools into `out`."""
    sources = sorted(str(path) for path in PROTOS.glob("glm5/v1/*.proto"))
    plugins = [
        f"--plugin={name}={Path(sys.executable).parent / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    outs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python")]
    outs += [f"--{kind}_out=quiet:{out}" for kind in ("mypy", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *plugins, *outs, *sources]
    subprocess.run(command, check=True)
    for path in out.glob("glm5/v1/*_pb2_grpc.py"):
        if "Stub" not in path.read_text():  # a file without a service needs no service module
            path.unlink()
            path.with_suffix(".pyi").unlink(missing_ok=True)


def stale(fresh: Path) -> list[str]:
    """Return the names of modules that differ from `fresh`, are missing or are left over."""
    have = {str(path.relative_to(PROTOS)) for path in PROTOS.glob(PATTERN)}
    want = {str(path.relative_to(fresh)) for path in fresh.glob(PATTERN)}
    differ = {name for name in have & want if not filecmp.cmp(PROTOS / name, fresh / name, shallow=False)}
    return sorted(differ | (have ^ want))


def main() -> int:
    """Generate, or check with --check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is not current")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        names = stale(Path(folder))
        if arguments.check:
            print(f"not current: {', '.join(names)}; run make generate" if names else "generated code is current")
            return bool(names)
        for path in PROTOS.glob(PATTERN):
            path.unlink()
        for path in Path(folder).glob(PATTERN):
            shutil.copy(path, PROTOS / path.relative_to(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
