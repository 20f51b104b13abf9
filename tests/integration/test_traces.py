"""One trace a request, through every role, at a collector."""

from collections import Counter
from pathlib import Path

import httpx
import pytest

from support_collector import Collector, Received
from support_stack import running_stack

TRACE, CLIENT, SILENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "1" * 32
PROMPT = [number % 250 for number in range(200)]


@pytest.mark.timeout(900)
def test_a_request_is_one_trace_through_gateway_decode_prefill_and_experts(tmp_path: Path, toy: Path) -> None:
    options = ("--dtype", "float32", "--decode", "1", "--experts", "2")
    with Collector() as collector:
        with running_stack(tmp_path, toy, *options, "--otlp-endpoint", collector.url) as stack:
            for trace, flags, count in ((TRACE, "01", 80), (SILENT, "00", 8)):
                headers = {"traceparent": f"00-{trace}-{CLIENT}-{flags}"}
                body = {"model": stack.model.name, "prompt": PROMPT, "max_tokens": count, "ignore_eos": True}
                answer = httpx.post(f"{stack.url}/v1/completions", json=body, headers=headers, timeout=400)
                assert answer.status_code == 200
                assert answer.json()["usage"]["completion_tokens"] == count
        # Every process sends what it has left when it ends.
        spans = list(collector.spans)
    assert collector.paths == {"/v1/traces"}
    check_one_tree([span for span in spans if span.trace == TRACE])
    others = [span for span in spans if span.trace != TRACE]
    assert {span.service for span in others} <= {"glm5-gateway"}, "something without a request begins traces"
    assert SILENT not in {span.trace for span in others}, "the client did not want this one"


def check_one_tree(spans: list[Received]) -> None:
    """Assert what the trace of the one request looks like."""
    ids = {span.id for span in spans}
    assert {span.service for span in spans} == {"glm5-gateway", "glm5-decode", "glm5-prefill", "glm5-experts"}
    assert [span.name for span in spans if span.parent not in ids] == ["POST /v1/completions"]
    assert {span.parent for span in spans} - ids == {CLIENT}
    by_id = {span.id: span for span in spans}
    chain = {"glm5-decode": "glm5-gateway", "glm5-prefill": "glm5-decode"}
    for service, caller in chain.items():
        (call,) = [span for span in spans if span.service == service and by_id[span.parent].service != service]
        assert by_id[call.parent].service == caller
    steps = [span for span in spans if span.name == "step"]
    computed = sum(span.attributes["rows"] for span in steps if span.service == "glm5-prefill")
    assert computed == len(PROMPT) - 1, "every step of the prompt is a span"
    assert any(span.service == "glm5-decode" for span in steps), "every 64th step that decodes is a span"
    products = [span for span in spans if span.service == "glm5-experts"]
    assert {by_id[span.parent].name for span in products} == {"step"}
    each = Counter((span.process, span.parent) for span in products)
    assert max(each.values()) == 1, "a shard has one span of a step, not one of each layer"
    assert {process for process, _ in each} == {"experts-0", "experts-1"}
