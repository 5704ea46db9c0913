"""A real server is asked whatever its own description allows, and what it does not: each answer is
one that the description has.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.orchestration.operators import DeskOperators
from assay.serving.http.operators import OPERATED
from assay.serving.server.http_server import HttpServer

MANIFEST = "a" * 64
KNOWN = {"model": "fx_vol", "version": "1.0.0"}

NAMED = st.sampled_from(["right", "right", "anyhow", "killed"])


@contextmanager
def serving(service: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        begun = threading.Event()
        server = HttpServer(service, started=begun.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert begun.wait(30)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def cases_of(operation: Any) -> Any:
    """Requests as described, and others where the description leaves any."""
    from schemathesis import GenerationMode

    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not operation.path_parameters and not operation.headers and not operation.body:
        return right
    return right | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def checks() -> list[Any]:
    """What each answer is held against."""
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
        unsupported_method,
    )

    return [
        status_code_conformance, content_type_conformance, response_headers_conformance,
        response_schema_conformance, unsupported_method,
    ]  # fmt: skip


@pytest.mark.long
def test_any_request_from_the_description_gets_an_answer_of_the_description(stage: Any) -> None:
    import schemathesis

    for kind in ("application/octet-stream", "application/vnd.apache.arrow.stream"):

        @schemathesis.serializer(kind)
        def as_bytes(_context: Any, value: Any) -> bytes:
            return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")

    seen: set[tuple[str, int]] = set()

    def ask_one(operation: Any) -> None:
        @settings(
            max_examples=300, database=None, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=cases_of(operation), named=NAMED)
        def ask(case: Any, named: str) -> None:
            stage.switch.off(by="test", reason="the last request switched it on")
            if named == "killed":
                stage.switch.on(by="test", reason="to see refusals")
            if named != "anyhow" and case.path_parameters:
                case.path_parameters = {name: KNOWN[name] for name in case.path_parameters}
            headers = {"X-Assay-Manifest": MANIFEST} if named != "anyhow" else {}
            answer = case.call_and_validate(headers=headers, checks=checks())
            seen.add((operation.path, answer.status_code))

        ask()

    with serving(stage.service) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        for found in schema.get_all_operations():
            ask_one(found.ok())
    assert len({path for path, _ in seen}) == len(list(schema.get_all_operations()))
    assert {status // 100 for _, status in seen} >= {2, 4}


@pytest.mark.long
def test_where_tokens_are_asked_for_the_description_has_every_answer_to_every_caller(
    staged: Any, desk_with_users: Any
) -> None:
    import schemathesis

    desk = desk_with_users
    stage = staged(operators=DeskOperators(desk))
    tokens = {
        name: desk.authenticator.issue(desk.access.user(name), 3_600, by="test").text
        for name in ("ops", "author", "audit")
    }
    seen: set[tuple[str, str, int]] = set()

    def ask_one(operation: Any) -> None:
        @settings(
            max_examples=200, database=None, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=cases_of(operation), who=st.sampled_from(["nobody", *tokens]))
        def ask(case: Any, who: str) -> None:
            headers = {"Authorization": f"Bearer {tokens[who]}"} if who in tokens else {}
            answer = case.call_and_validate(headers=headers, checks=checks())
            seen.add((operation.path, who, answer.status_code))

        ask()

    with serving(stage.service) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        for found in schema.get_all_operations():
            if found.ok().path in OPERATED:
                ask_one(found.ok())
    for path in OPERATED:
        assert {status for one, who, status in seen if (one, who) == (path, "nobody")} == {401}
        known = {status for one, who, status in seen if (one, who) == (path, "audit")}
        assert {403} <= known <= {401, 403}  # some requests are made to leave the token out
    assert {("/kill", "ops", 200), ("/unkill", "ops", 200)} <= seen
    assert ("/feedback", "author", 422) in seen  # it was let in, and its body was read
