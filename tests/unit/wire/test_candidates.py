"""Settings of discovery that make no sense are refused before anything starts."""

import pytest

from glm5_spec.settings import Discovery
from glm5_wire.candidates import source_for
from glm5_wire.dns import split_port
from glm5_wire.errors import StartupError


def test_file_and_dns_together_are_refused() -> None:
    with pytest.raises(StartupError, match="both `file` and `dns` are set; set exactly one"):
        source_for(Discovery(file="x", dns={"experts": "a:1"}))


@pytest.mark.parametrize("text", ["shards", "shards:", ":9000", "shards:http"])
def test_a_name_without_port_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(StartupError, match="is not host:port; write for example"):
        source_for(Discovery(dns={"experts": text}, dns_server="127.0.0.1:53"))


def test_addresses_of_both_families_are_split() -> None:
    assert split_port("10.0.0.1:53", "x") == ("10.0.0.1", 53)
    assert split_port("[fd00::1]:53", "x") == ("fd00::1", 53)
