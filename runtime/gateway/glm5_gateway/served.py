"""The model as the gateway knows it: names, tokenizer, template, limits and defaults. Read once at start-up."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glm5_gateway.text.template import ChatTemplate
from glm5_gateway.text.tokenizer import Tokenizer
from glm5_wire.errors import StartupError

_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What clients call by its names."""

    names: list[str]
    """The first one is what answers say."""
    tokenizer: Tokenizer
    template: ChatTemplate
    vocab_size: int
    """Of the model: ids from here on are wrong, whatever the tokenizer has."""
    max_model_len: int
    """Of the configuration, in tokens; workers may have room for less."""
    defaults: dict[str, float] = field(default_factory=dict)
    """Sampling parameters of generation_config.json, for requests that name none."""

    @classmethod
    def from_dir(cls, path: str | Path, names: list[str]) -> "ServedModel":
        """Return the model in the checkpoint folder `path`.

        Raises:
            StartupError: a file is missing or damaged.
        """
        folder = Path(path)
        config = _read(folder / "config.json")
        sizes = {key: config.get(key) for key in ("vocab_size", "max_position_embeddings")}
        for key, value in sizes.items():
            if not isinstance(value, int) or value < 1:
                raise StartupError(
                    f"cannot use {folder / 'config.json'}: `{key}` is {value!r}; it must be a positive integer"
                )
        generation = folder / "generation_config.json"
        found = _read(generation) if generation.exists() else {}
        return cls(
            names=list(names),
            tokenizer=Tokenizer.from_dir(folder),
            template=ChatTemplate.from_dir(folder),
            vocab_size=config["vocab_size"],
            max_model_len=config["max_position_embeddings"],
            defaults={key: found[key] for key in _DEFAULTS if isinstance(found.get(key), int | float)},
        )


def _read(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`."""
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}; check model_path") from error
    except ValueError as error:
        raise StartupError(f"cannot read {file}: {error}; copy the file again") from error
    if not isinstance(value, dict):
        raise StartupError(f"cannot use {file}: it is no JSON object; copy the file again")
    return value
