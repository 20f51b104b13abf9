"""docs/metrics.md says what the code does."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "gen_metrics.py"


def test_the_page_of_metrics_is_that_of_the_code() -> None:
    # In a process of its own: tests of other rooms declare nothing there.
    done = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
