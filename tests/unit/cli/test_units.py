"""What `glm5 up` starts, as pure values."""

import pytest

from glm5_cli.errors import CliError
from glm5_cli.layout import Layout, units
from glm5_cli.load import Outcome
from glm5_cli.overrides import overrides
from glm5_cli.ports import free_ports, is_free
from glm5_cli.report import percentile, report
from glm5_cli.table import experts_text
from glm5_spec.admin import Holding
from glm5_spec.settings import GatewaySettings, ShardSettings, WorkerSettings

KINDS = {"gateway": GatewaySettings, "prefill": WorkerSettings, "decode": WorkerSettings, "experts": ShardSettings}


def test_the_default_is_one_gateway_one_prefill_two_decode_four_shards() -> None:
    names = [unit.name for unit in units(Layout("m", ("m",)))]
    assert names == [
        "experts-0",
        "experts-1",
        "experts-2",
        "experts-3",
        "prefill-0",
        "decode-0",
        "decode-1",
        "gateway-0",
    ]


def test_every_unit_has_valid_settings() -> None:
    layout = Layout("m", ("m",), gateways=2, groups=2, shards=3, overrides={"decode": {"cache_tokens": 640}})
    for unit in units(layout):
        settings = KINDS[unit.role].model_validate(unit.fields)
        assert settings.name == unit.name
    assert [u.fields["cache_tokens"] for u in units(layout) if u.role == "decode"] == [640, 640]
    assert [u.name for u in units(layout) if u.role == "experts"][3:] == ["experts-1-0", "experts-1-1", "experts-1-2"]


def test_only_the_first_gateway_has_the_known_ports() -> None:
    gateways = [u for u in units(Layout("m", ("m",), gateways=2, http_port=8000)) if u.role == "gateway"]
    assert [u.fields["http_port"] for u in gateways] == [8000, 0]


def test_overrides_parse_json_and_strings_and_reach_all_roles() -> None:
    found = overrides(["decode.cache_tokens=640", "all.deployment=x"])
    assert found["decode"] == {"cache_tokens": 640, "deployment": "x"}
    assert found["gateway"] == {"deployment": "x"}


@pytest.mark.parametrize(
    ("text", "words"),
    [("decode", "write ROLE.FIELD=VALUE"), ("dcode.x=1", "no role dcode"), ("decode.x=1", "decode has no x")],
)
def test_wrong_overrides_say_what_there_is(text: str, words: str) -> None:
    with pytest.raises(CliError, match=words):
        overrides([text])


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(is_free(port) for port in ports)


def test_percentiles_are_nearest_ranks() -> None:
    assert percentile([], 50) == 0
    assert percentile([3, 1, 2], 50) == 2
    assert percentile(list(range(100)), 99) == 99


def test_a_report_counts_tokens_and_failures() -> None:
    good = Outcome(sent=0.0, token_times=[1.0, 1.5, 2.5], ended=2.5)
    bad = Outcome(sent=0.0, ended=1.0, error="HTTP 503")
    found = report([good, bad], seconds=2.5)
    assert (found["requests"], found["failed"], found["output_tokens"]) == (2, 1, 3)
    assert found["time_to_first_token_seconds"]["p50"] == 1.0
    assert found["inter_token_latency_seconds"]["p99"] == 1.0


def test_experts_are_told_as_ranges_or_as_varies() -> None:
    same = [Holding(layer=layer, first=0, count=64) for layer in (3, 4)]
    assert experts_text(same) == "0-63 of 2 layers"
    assert experts_text([*same, Holding(layer=5, first=64, count=64)]) == "varies"
    assert experts_text([]) == "none yet"
