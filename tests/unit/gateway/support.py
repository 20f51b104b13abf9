"""What the gateway reads of a checkpoint, and every way to cut a text."""

import json
from collections.abc import Iterator
from pathlib import Path

import glm5_model.toy
from glm5_model.toy.tokenizer import num_tokens, stop_ids, tokenizer_config_json, tokenizer_json

# Merges that leave whole words, halves of characters and bytes.
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ã", "©"), ("ð", "Ł"), ("ðŁ", "Ļ"), ("Ċ", "Ċ"), ("i", "n")]
VOCAB_SIZE = num_tokens(MERGES)
MAX_LEN = 4096


def write_text_files(folder: Path, variant: str = "5.0") -> Path:
    """Write everything of a toy checkpoint but its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(glm5_model.toy.__file__).parent / f"chat_template_{variant.replace('.', '_')}.jinja"
    (folder / "chat_template.jinja").write_text(source.read_text("utf-8"), "utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(MERGES)))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config_json(MAX_LEN)))
    config = {"vocab_size": VOCAB_SIZE, "max_position_embeddings": MAX_LEN}
    (folder / "config.json").write_text(json.dumps(config))
    defaults = {"temperature": 1.0, "top_p": 0.95, "eos_token_id": stop_ids(MERGES)}
    (folder / "generation_config.json").write_text(json.dumps(defaults))
    return folder


def cuts(text: str) -> Iterator[list[str]]:
    """Yield `text` whole, in single characters, and in two parts for every place."""
    yield [text]
    yield list(text)
    for place in range(1, len(text)):
        yield [text[:place], text[place:]]
