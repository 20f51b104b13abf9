"""An object is as we want it if we applied the same manifest and nobody took a field from us."""

import copy
from typing import Any

from glm5_operator.diff import differs, stamped

WANTED = stamped(
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "demo", "namespace": "a", "labels": {"ours": "1"}, "ownerReferences": [{"uid": "u"}]},
        "spec": {"ports": [{"name": "http", "port": 80}], "selector": {"a": "b"}, "extra": []},
    }
)
FIELDS: dict[str, Any] = {
    "f:metadata": {
        "f:annotations": {"f:serving.glm5.io/applied": {}},
        "f:labels": {"f:ours": {}},
        "f:ownerReferences": {'k:{"uid":"u"}': {}},
    },
    "f:spec": {
        "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}}},
        "f:selector": {},
    },
}


def test_what_we_applied_and_still_own_does_not_differ() -> None:
    assert not differs(live(), WANTED, "us")


def test_defaults_and_fields_of_others_do_not_matter() -> None:
    found = live()
    found["metadata"]["labels"]["theirs"] = "2"
    found["spec"]["clusterIP"] = "10.0.0.1"

    assert not differs(found, WANTED, "us")


def test_a_field_that_somebody_took_differs() -> None:
    taken = copy.deepcopy(FIELDS)
    del taken["f:metadata"]["f:labels"]

    assert differs(live(taken), WANTED, "us")


def test_a_list_entry_that_somebody_removed_differs() -> None:
    taken = copy.deepcopy(FIELDS)
    taken["f:spec"]["f:ports"] = {'k:{"port":81,"protocol":"TCP"}': {".": {}}}

    assert differs(live(taken), WANTED, "us")


def test_a_field_of_a_list_entry_that_somebody_changed_differs() -> None:
    taken = copy.deepcopy(FIELDS)
    taken["f:spec"]["f:ports"] = {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}

    assert differs(live(taken), WANTED, "us")


def test_another_manifest_differs_though_every_field_is_ours() -> None:
    body = {key: value for key, value in WANTED.items() if key != "metadata"}
    metadata = {**WANTED["metadata"], "annotations": {}}
    other = stamped({**body, "metadata": metadata, "spec": {**WANTED["spec"], "selector": {"a": "c"}}})

    assert differs(live(), other, "us")


def test_an_object_that_another_manager_applied_differs() -> None:
    assert differs(live(), WANTED, "somebody")


def live(fields: dict[str, Any] = FIELDS) -> dict[str, Any]:
    found = copy.deepcopy(WANTED)
    found["metadata"]["managedFields"] = [{"manager": "us", "operation": "Apply", "fieldsV1": fields}]
    return found
