"""The gateway's process: what it loads, and how it refuses to start."""

import json
import subprocess
import sys

CODE = """
import sys
from glm5_gateway.__main__ import GatewayService
from glm5_gateway.served import ServedModel
from glm5_gateway.http import app, listener
served = ServedModel.from_dir(sys.argv[1], ["toy"])
assert served.tokenizer.encode("the")
heavy = {"torch", "numpy", "transformers", "glm5_model", "glm5_engine"}
print(sorted({name.split(".")[0] for name in sys.modules} & heavy))
"""


def test_a_gateway_loads_no_torch_and_no_numpy(folder):
    done = subprocess.run([sys.executable, "-c", CODE, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


def start(tmp_path, **fields):
    settings = tmp_path / "settings.json"
    common = {"role": "gateway", "name": "g", "served_names": ["toy"], "http_port": 0}
    settings.write_text(json.dumps(common | fields))
    command = [sys.executable, "-m", "glm5_gateway", "--settings", str(settings)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_missing_checkpoint_is_one_line_and_exit_2(tmp_path):
    done = start(tmp_path, model_path=str(tmp_path / "absent"))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("glm5:")]
    assert "config.json" in line
    assert "model_path" in line
    assert "Traceback" not in done.stderr


def test_a_missing_key_file_is_one_line_and_exit_2(tmp_path, folder):
    done = start(tmp_path, model_path=str(folder), api_key_file=str(tmp_path / "absent"))
    assert done.returncode == 2
    assert "api_key_file" in done.stderr
    assert "Traceback" not in done.stderr
