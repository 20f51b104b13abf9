"""What a worker knows of its checkpoint, and how it refuses a bad one."""

import json
import shutil

import pytest

from glm5_engine.loaded import load, num_tokens
from glm5_model.toy import write_toy
from glm5_spec.settings import WorkerSettings
from glm5_wire.errors import StartupError
from unit.engine.support import SIZES


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("m") / "toy", "5.0", **SIZES)


def settings(path, **fields):
    return WorkerSettings(name="w", role="decode", model_path=str(path), dtype="float32", **fields)


def test_the_vocabulary_is_the_tokenizers_and_the_length_is_what_the_pool_holds(path):
    shares = []
    loaded = load(settings(path, cache_tokens=1000), shares.append)
    assert loaded.facts.vocab_size == 292
    assert loaded.facts.max_model_len == 960
    assert loaded.cache.num_pages == 15
    assert shares[-1] == 1.0
    assert len(loaded.compat) == 16


def test_compat_differs_where_numerics_or_weight_version_do(path):
    values = {load(settings(path, **f), print).compat for f in ({}, {"numerics": "fast"}, {"weight_version": 2})}
    assert len(values) == 3


def test_without_a_tokenizer_the_models_vocabulary_holds(path, tmp_path):
    assert num_tokens(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"model": {"vocab": 3}})])
def test_a_broken_tokenizer_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(StartupError, match=r"tokenizer\.json"):
        num_tokens(tmp_path)


def test_a_missing_checkpoint_is_one_line_with_the_path(tmp_path):
    with pytest.raises(StartupError) as refused:
        load(settings(tmp_path / "absent"), print)
    assert "absent" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_checkpoint_is_refused(path, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(path, broken)
    file = next(broken.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(StartupError, match=file.name):
        load(settings(broken), print)
