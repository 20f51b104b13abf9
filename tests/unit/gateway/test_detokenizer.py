"""Text comes whole: no half characters, nothing lost, whatever the tokens are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer

from glm5_gateway.text.detokenizer import Detokenizer
from glm5_gateway.text.tokenizer import Tokenizer
from glm5_wire.errors import InvalidRequest, StartupError
from unit.gateway.support import VOCAB_SIZE, write_text_files

TEXTS = ["the end", "née the thé", "🙊🙊 in", "日本語 and\n\nŻółć", "a<think>b</think>c", "\x00\x7f\u200d", ""]


def pieces(tokenizer, ids, **options):
    detokenizer = Detokenizer(tokenizer, **options)
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.finish()]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_way_through_tokens(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.text(ids) == text
    assert "".join(pieces(tokenizer, ids)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_no_piece_holds_half_a_character(tokenizer, text):
    assert not any("\ufffd" in piece for piece in pieces(tokenizer, tokenizer.encode(text)))


def test_bytes_of_one_character_come_together(tokenizer):
    assert pieces(tokenizer, list("日".encode())) == ["", "", "日", ""]


def test_an_output_that_ends_inside_a_character_says_so(tokenizer):
    assert pieces(tokenizer, list("é日".encode())[:-1]) == ["", "é", "", "", "\ufffd"]


def test_special_tokens_are_hidden_unless_wanted(tokenizer):
    ids = tokenizer.encode("[gMASK]a<|user|><think>b")
    assert "".join(pieces(tokenizer, ids)) == "a<think>b"
    assert "".join(pieces(tokenizer, ids, skip_special=False)) == "[gMASK]a<|user|><think>b"


@given(ids=st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40), skip=st.booleans())
def test_any_tokens_give_the_text_of_the_tokenizers_package(tokenizer, folder, ids, skip):
    fast = FastTokenizer.from_file(str(folder / "tokenizer.json"))
    expected = fast.decode(ids, skip_special_tokens=skip)
    assert tokenizer.text(ids, skip_special=skip) == expected
    assert "".join(pieces(tokenizer, ids, skip_special=skip)) == expected


def test_ids_that_only_the_model_has_are_empty(tokenizer):
    assert pieces(tokenizer, [VOCAB_SIZE + 5]) == ["", ""]


def test_a_lone_surrogate_is_refused(tokenizer):
    with pytest.raises(InvalidRequest, match="lone surrogate"):
        tokenizer.encode("a\ud800")


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(StartupError, match=r"tokenizer\.json"):
        Tokenizer.from_dir(tmp_path)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    file = write_text_files(tmp_path) / "tokenizer.json"
    file.write_text(file.read_text().replace('"ByteLevel", "add_prefix_space": true', '"Metaspace"'))
    with pytest.raises(StartupError, match=r"tokenizer\.json"):
        Tokenizer.from_dir(tmp_path)
