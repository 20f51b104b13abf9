"""The application around its routes: ids, keys, sizes, methods, facts, and the OpenAPI document."""

import jsonschema
import pytest

from glm5_gateway.keys import Keys
from glm5_wire.errors import StartupError

USER = {"role": "user", "content": "hi"}


async def test_the_request_id_is_taken_over_or_made(make_client):
    async with make_client() as client:
        given = await client.get("/health", headers={"x-request-id": "mine-1"})
        made = await client.get("/health")
        wrong = await client.get("/nothing", headers={"x-request-id": "a b\t" + "c" * 200})
    assert given.headers["x-request-id"] == "mine-1"
    assert len(made.headers["x-request-id"]) == 32
    assert len(wrong.headers["x-request-id"]) == 32


async def test_what_is_no_route_is_said_in_the_same_shape(make_client):
    async with make_client() as client:
        missing = await client.get("/v1/nothing")
        method = await client.get("/v1/completions")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (method.status_code, method.json()["error"]["code"]) == (405, "method_not_allowed")
    assert method.headers["allow"] == "POST"


async def test_head_works_where_get_does(make_client):
    async with make_client() as client:
        response = await client.head("/v1/models")
    assert response.status_code == 200


async def test_facts_are_told_without_any_worker(make_client, served):
    async with make_client() as client:
        models = (await client.get("/v1/models")).json()
        ready = await client.get("/ready")
        version = (await client.get("/version")).json()
        metrics = (await client.get("/metrics")).text
    assert [model["id"] for model in models["data"]] == ["toy", "also-toy"]
    assert {model["max_model_len"] for model in models["data"]} == {served.max_model_len}
    assert ready.status_code == 503
    assert "no decode worker is known" in ready.json()["error"]["message"]
    assert version["version"]
    assert "vllm:time_to_first_token_seconds" in metrics


async def test_tokenize_and_detokenize_are_each_others_reverse(make_client):
    async with make_client() as client:
        tokens = (await client.post("/tokenize", json={"prompt": "née 🙊 <think>", "return_token_strs": True})).json()
        text = (await client.post("/detokenize", json={"tokens": tokens["tokens"]})).json()
        chat = (await client.post("/tokenize", json={"messages": [USER], "enable_thinking": False})).json()
        prompt = (await client.post("/detokenize", json={"tokens": chat["tokens"]})).json()
    assert text == {"prompt": "née 🙊 <think>"}
    assert tokens["count"] == len(tokens["tokens"]) == len(tokens["token_strs"])
    assert prompt == {"prompt": "[gMASK]<sop><|user|>hi<|assistant|></think>"}


async def test_only_known_keys_enter(make_client, tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nsecret-1\n\nsecret-2\n")
    async with make_client(key_file=str(file)) as client:
        good = await client.get("/v1/models", headers={"authorization": "Bearer secret-2"})
        answers = [
            await client.get("/v1/models", headers=headers)
            for headers in (
                {},
                {"authorization": "Bearer wrong"},
                {"authorization": "Basic secret-1"},
                {"authorization": "secret-1"},
            )
        ]
        probe = await client.get("/health")
    assert good.status_code == probe.status_code == 200
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert "secret" not in answer.text


def test_owners_are_told_apart_without_their_keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text("secret-1\nsecret-2\n")
    owners = {Keys(str(file)).owner(f"Bearer secret-{number}", "x") for number in (1, 2)}
    assert len(owners) == 2
    assert not any("secret" in owner for owner in owners)
    assert Keys(None).owner("", "10.0.0.1") == "10.0.0.1"


def test_a_file_without_keys_is_refused_at_start(tmp_path):
    empty = tmp_path / "keys"
    empty.write_text("# nothing\n")
    for path in (str(empty), str(tmp_path / "absent")):
        with pytest.raises(StartupError, match="api_key_file"):
            Keys(path)


def test_changed_keys_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("glm5_gateway.keys._LOOK_SECONDS", 0.0)
    file = tmp_path / "keys"
    file.write_text("old\n")
    keys = Keys(str(file))
    file.write_text("new-one\n")
    assert keys.owner("Bearer new-one", "x")
    file.unlink()
    assert keys.owner("Bearer new-one", "x")


async def test_the_document_describes_every_route_and_status(make_client):
    async with make_client() as client:
        document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/tokenize",
        "/detokenize",
        "/health",
        "/ready",
        "/version",
        "/metrics",
    }
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert set(chat["responses"]) == {"200", "400", "401", "404", "413", "429", "500", "503", "504"}
    assert not any("422" in route["responses"] for path in document["paths"].values() for route in path.values())
    assert "seed" in document["components"]["schemas"]["ChatBody"]["properties"]


async def test_answers_fit_the_document(make_client):
    async with make_client() as client:
        document = (await client.get("/openapi.json")).json()
        answers = {"Models": await client.get("/v1/models"), "Error": await client.post("/tokenize", json={})}
        answers["Tokens"] = await client.post("/tokenize", json={"prompt": "a"})
    for name, answer in answers.items():
        schema = document["components"]["schemas"][name]
        jsonschema.Draft202012Validator(schema).validate(answer.json())


async def test_a_body_without_a_length_is_cut_off_at_the_limit(make_client):
    async def parts():
        for _ in range(64):
            yield b" " * 1024

    async with make_client(max_body_bytes=4096) as client:
        response = await client.post("/tokenize", content=parts())
    assert response.status_code == 413
    assert "at most 4096 bytes" in response.json()["error"]["message"]
