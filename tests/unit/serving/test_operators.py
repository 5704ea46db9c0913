"""A real server whose operators show tokens: who is let in, and everybody who is not."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from assay import bootstrap
from assay.access import AccessLog, Authenticator, Revocation, Revocations, Scope, TokenKeys
from assay.errors import ConfigurationError
from assay.orchestration.operators import NOBODY_RECOGNISED, SCOPES, DeskOperators
from assay.serving.http.operators import OPERATED
from assay.serving.server.http_server import HttpServer
from assay.storage.locks import FileLock
from assay.testing.clocks import FixedClock
from assay.testing.waiting import until

NOW = 1_700_000_000 * 10**9
HOUR = 3_600 * 10**9
KILL = b'{"reason": "a test"}'
ROW = b'{"features": [1.0, 2.0, 3.0]}'


@dataclass
class World:
    """A served desk, and those who call it."""

    folder: Path
    desk: Any
    operators: DeskOperators
    stage: Any
    address: tuple[str, int] = ("", 0)
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, who: str, **options: Any) -> str:
        user = self.desk.access.user(who)
        return str(self.desk.authenticator.issue(user, 3_600, by="test", **options).text)

    def send(self, data: bytes) -> bytes:
        """Everything that is answered until the server closes the connection."""
        with closing(socket.create_connection(self.address, timeout=30)) as connection:
            found = b""
            try:
                connection.sendall(data)
                while more := connection.recv(65_536):
                    found += more
            except ConnectionError:
                pass  # refused while it was still being sent
        return found

    def ask(
        self, path: str, body: bytes = KILL, token: str | None = None, *, id_: str = "a",
        method: str = "POST", more: bytes = b"",
    ) -> tuple[int, Any]:  # fmt: skip
        more += b"connection: close\r\n"
        data = request(path, body, token, id_=id_, method=method, more=more)
        return parse(self.send(data))[0]

    def is_on(self) -> bool:
        return bool(self.stage.switch.path.exists())

    def recorded(self, id_: str) -> dict[str, Any]:
        """What the record of access has about a request."""
        found: list[dict[str, Any]] = []

        def written() -> bool:
            found[:] = [e for e in self.desk.access_log.events() if e["request_id"] == id_]
            return bool(found)

        until(written)
        (event,) = found
        return event


def request(
    path: str, body: bytes = b"", token: str | None = None, *, id_: str = "a",
    method: str = "POST", more: bytes = b"", version: str = "1.1",
) -> bytes:  # fmt: skip
    lines = [
        f"{method} {path} HTTP/{version}", "host: a", "content-type: application/json",
        "x-assay-manifest: " + "a" * 64, f"x-request-id: {id_}", f"content-length: {len(body)}",
    ]  # fmt: skip
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n" + more + b"\r\n" + body


def parse(data: bytes) -> list[tuple[int, Any]]:
    """Status and document of each answer in some bytes."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        size = int(length[1]) if length else 0
        body = rest[:size]
        is_json = b"json" in head.lower() and body
        found.append((int(head.split(b" ", 2)[1]), json.loads(body) if is_json else body))
        data = rest[size:]
    return found


@pytest.fixture
def world(staged: Any, tmp_path: Path, desk_with_users: Any) -> Iterator[World]:
    operators = DeskOperators(desk_with_users)
    made = World(tmp_path, desk_with_users, operators, staged(operators=operators))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        begun = threading.Event()
        server = HttpServer(made.stage.service, started=begun.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert begun.wait(30)
            made.address = listening.getsockname()[:2]
            yield made
        finally:
            server.should_exit = True
            thread.join()


def strangers(world: World) -> dict[str, tuple[str | None, str]]:
    """Tokens that let nobody in, and the word that the record has for each."""
    keys = world.desk.authenticator.keys
    spare = world.folder / "spare"
    log = AccessLog(spare / "log.jsonl", world.desk.clock)
    revoked = world.desk.authenticator.revocations

    def by(issuing: TokenKeys, audience: str, at: int) -> str:
        other = Authenticator(issuing, Revocations(spare / "none"), log, FixedClock(at),
                              audience=audience)  # fmt: skip
        return str(other.issue(world.desk.access.user("ops"), 3_600, by="test").text)

    theirs = TokenKeys(spare / "keys/tokens.json", world.folder / "theirs", "assay:desk")
    theirs.rotate(NOW)
    good, bad = world.token("ops"), world.token("ops")
    head, claims, _ = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    claimed = json.loads(base64.urlsafe_b64decode(bad.split(".")[1] + "=="))
    revoked.add(Revocation(NOW, "admin", "it was in a log", token_id=claimed["jti"]))
    revoked.add(Revocation(NOW, "admin", "the machine was lost", subject="gone"))
    return {
        "none": (None, "no_token"),
        "empty": ("", "no_token"),
        "noise": ("a.b.c", "malformed_token"),
        "beyond ASCII": ("\xff\xfe.\xff.\xff", "malformed_token"),
        "too long": ("a" * 20_000, "malformed_token"),
        "unsigned": (f"{none}.{claims}.", "algorithm_none"),
        "altered": (f"{head}.{claims}.{bad.split('.')[2]}", "wrong_signature"),
        "another desk's": (by(theirs, "assay:desk", NOW), "unknown_key"),
        "for another desk": (by(keys, "assay:other", NOW), "wrong_audience"),
        "expired": (by(keys, "assay:desk", NOW - 2 * HOUR), "expired"),
        "of tomorrow": (by(keys, "assay:desk", NOW + HOUR), "not_yet_valid"),
        "revoked": (bad, "revoked"),
        "of a user who was revoked": (world.token("gone"), "revoked"),
    }


def test_nobody_operates_who_has_not_shown_who_they_are(world: World) -> None:
    for number, (name, (token, code)) in enumerate(strangers(world).items()):
        path = sorted(OPERATED)[number % len(OPERATED)]
        last = b"connection: close\r\n"
        answer = world.send(request(path, b"no JSON", token, id_=f"s{number}", more=last))
        ((status, problem),) = parse(answer)
        assert (status, problem["found"]) == (401, code), name
        assert problem["type"] == "urn:assay:problem:unauthenticated"
        assert b"www-authenticate: bearer\r\n" in answer.lower()
        assert token in {None, ""} or token.encode("latin-1") not in answer
        event = world.recorded(f"s{number}")
        assert (event["event"], event["code"], event["resource"], event["place"]) == (
            "refused", code, path, "127.0.0.1",
        )  # fmt: skip
    assert not world.is_on()
    assert {e["event"] for e in world.stage.recorded()} == {"started", "loaded"}


ROLES: dict[str, set[str]] = {
    "ops": {"/kill", "/unkill", "/model/reload"},
    "author": {"/feedback"},
    "book": {"/feedback"},
    "audit": set(),
}
OUTCOME = b'{"instrument": "A", "timestamp": "2023-11-14T22:00:00Z", "realized_value": 1.0}'
BODIES = {"/model/reload": b"{}", "/feedback": OUTCOME}


def test_whoever_is_known_does_what_their_roles_allow_and_nothing_else(world: World) -> None:
    for who, may in ROLES.items():
        token = world.token(who)
        for path in sorted(OPERATED):
            id_ = f"{who}{path.replace('/', '.')}"
            status, answer = world.ask(path, BODIES.get(path, KILL), token, id_=id_)
            if path in may:
                # Nothing was predicted that an outcome could belong to.
                assert status == (404 if path == "/feedback" else 200), answer
                continue
            assert (status, answer["type"]) == (403, "urn:assay:problem:forbidden")
            assert str(SCOPES[path]) in answer["expected"]
            event = world.recorded(id_)
            assert (event["subject"], event["code"]) == (who, "missing_scope")
    assert not world.is_on()


def test_a_token_that_was_made_smaller_allows_no_more_than_it_says(world: World) -> None:
    token = world.token("ops", scopes=frozenset({Scope.READ}))
    assert world.ask("/kill", token=token)[0] == 403
    assert not world.is_on()


def test_who_switches_is_whose_token_it_is(world: World) -> None:
    token = world.token("ops")
    for number, by in enumerate([b'"author"', b'"OPS"', b'"ops "', b'"o\\u0440s"']):
        body = b'{"by": %b, "reason": "a test"}' % by
        status, problem = world.ask("/kill", body, token, id_=f"b{number}")
        assert (status, problem["found"]) == (403, "other_person")
        assert world.recorded(f"b{number}")["subject"] == "ops"
    assert world.ask("/kill", b'{"by": "", "reason": "a test"}', token)[0] == 422
    assert not world.is_on()
    for number, body in enumerate([KILL, b'{"by": "ops", "reason": "a test"}',
                                   b'{"by": null, "reason": "a test"}']):  # fmt: skip
        status, answer = world.ask("/kill", body, token, id_=f"on{number}")
        assert (status, answer["by"]) == (200, "ops")
        assert (world.recorded(f"on{number}")["event"], world.is_on()) == ("done", True)
        assert world.ask("/inference/predict", ROW)[0] == 503
        assert world.ask("/unkill", body, token, id_=f"off{number}")[0] == 200
        assert world.recorded(f"off{number}")["action"] == "kill --off"
        assert world.ask("/inference/predict", ROW)[0] == 200
    turns = [(e["event"], e["by"]) for e in world.stage.recorded() if "killed" in e["event"]]
    assert turns == [("killed", "ops"), ("unkilled", "ops")] * 3


def test_an_outcome_says_who_told_it(world: World) -> None:
    made = world.ask("/predict", b'{"instrument": "USD_SGD"}')[1]
    body = json.dumps(
        {"instrument": "USD_SGD", "timestamp": made["timestamp"], "realized_value": 1.0}
    ).encode()
    assert world.ask("/feedback", body)[0] == 401
    assert world.ask("/feedback", body, world.token("book"))[0] == 200
    (line,) = (world.stage.folder / "feedback.jsonl").read_text().splitlines()
    assert json.loads(line)["by"] == "book"


SPELLINGS = {
    "//kill": 404, "/kill/": 404, "/KILL": 404, "/%2fkill": 404, "/%2Fkill": 404, "/./kill": 404,
    "/health/../kill": 404, "/kill%0A": 404, "/kill%0D": 404, "/kill%00": 404, "/kill%20": 404,
    "/kill;a": 404, "/kill%3Fa": 404, "/kill%23": 404, "/k%C4%B1ll": 404, "/v2/../kill": 404,
    "/kill?a=b": 401, "/kill#a": 401, "/%6bill": 401, "/%6B%69%6C%6C": 401, "http://b/kill": 401,
    "/model%2freload": 401, "/model//reload": 404, "/model/reload%0A": 404,
}  # fmt: skip


def test_no_spelling_of_a_path_leads_past_the_question(world: World) -> None:
    assert {path: world.ask(path)[0] for path in SPELLINGS} == SPELLINGS
    token = world.token("audit")
    found = {path: world.ask(path, token=token)[0] for path in SPELLINGS}
    assert found == {path: 403 if status == 401 else status for path, status in SPELLINGS.items()}
    assert not world.is_on()
    assert {e["event"] for e in world.stage.recorded()} == {"started", "loaded"}


def test_no_other_method_switches_with_or_without_a_token(world: World) -> None:
    ops = world.token("ops")
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"):
        for path in sorted(OPERATED):
            for token in (None, ops):
                assert world.ask(path, KILL, token, method=method)[0] == 405, method
    override = b"x-http-method-override: POST\r\n"
    assert world.ask("/kill", KILL, None, method="GET", more=override)[0] == 405
    assert not world.is_on()


def test_a_header_that_stands_twice_or_never_ends_lets_nobody_in(world: World) -> None:
    token = world.token("ops")
    good = f"authorization: Bearer {token}\r\n".encode()
    for more in (good, b"Authorization: Bearer a.b.c\r\n", b"AUTHORIZATION: \r\n"):
        assert world.ask("/kill", token=token, more=more)[0] == 401
    for kind in (b"Basic", b"Token", b"Bearer:", token.encode(), b"Bearer\xa0" + token.encode()):
        assert world.ask("/kill", more=b"authorization: " + kind + b" a.b.c\r\n")[0] == 401
    two = f"authorization: Bearer {token}, Bearer {token}\r\n".encode()
    assert world.ask("/kill", more=two)[0] == 401
    endless = world.send(request("/kill", KILL, "a" * 4_000_000))
    assert not endless or parse(endless)[0][0] == 431
    assert not world.is_on()
    assert world.ask("/kill", more=b"authorization:   bEARER   " + good[22:])[0] == 200


def test_behind_predictions_on_one_connection_each_request_is_asked_for_itself(
    world: World,
) -> None:
    good = world.token("ops")
    last = request("/inference/predict", ROW, more=b"connection: close\r\n")
    predict, ask = request("/inference/predict", ROW), request("/kill", KILL)
    told = request("/kill", KILL, good)
    found = [status for status, _ in parse(world.send(predict + ask + predict + ask + last))]
    assert found == [200, 401, 200, 401, 200]
    # A token is good for the request that it stands in, not for the connection.
    sent = predict + told + request("/unkill", KILL, good) + ask + request("/unkill", KILL) + last
    assert [status for status, _ in parse(world.send(sent))] == [200, 200, 200, 401, 401, 200]
    inside = request("/inference/predict", ROW + told)
    assert [status for status, _ in parse(world.send(inside + last))] == [400, 200]
    assert not world.is_on()


def test_a_client_of_http_1_0_is_asked_like_every_other(world: World) -> None:
    old = request("/kill", KILL, version="1.0")
    assert [status for status, _ in parse(world.send(old))] == [401]
    assert not world.is_on()
    told = request("/kill", KILL, world.token("ops"), version="1.0")
    assert [status for status, _ in parse(world.send(told))] == [200]
    assert world.is_on()


def test_what_is_taken_away_counts_from_the_next_request(world: World) -> None:
    token = world.token("ops")
    assert world.ask("/unkill", token=token)[0] == 200
    users = world.folder / "desk/configs/access.yaml"
    before = users.read_text()
    users.write_text(before.replace("ops: {roles: [sre]}", "ops: {roles: [quant]}"))
    assert world.ask("/kill", token=token)[0] == 403
    users.write_text(before.replace("  ops: {roles: [sre]}\n", ""))
    assert world.ask("/kill", token=token)[1]["found"] == "unknown_user"
    users.write_text(before)
    assert world.ask("/unkill", token=token)[0] == 200
    keys = world.desk.authenticator.keys
    keys.rotate(NOW, retire=keys.listed()[0].key_id, reason="the machine was lost")
    assert world.ask("/kill", token=token)[1]["found"] == "retired_key"
    assert world.ask("/unkill", token=world.token("ops"))[0] == 200


BROKEN: dict[str, Callable[[Path], object]] = {
    "users that are none": lambda desk: (desk / "configs/access.yaml").write_text("secret: []"),
    "no users": lambda desk: (desk / "configs/access.yaml").unlink(),
    "revocations that are none": lambda desk: (desk / "keys/revoked.jsonl").write_text("secret\n"),
    "keys that are none": lambda desk: (desk / "keys/tokens.json").write_text("secret"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_where_nobody_can_be_recognised_nobody_is_and_strangers_are_not_told_why(
    world: World, what: str
) -> None:
    token = world.token("ops")
    BROKEN[what](world.folder / "desk")
    status, problem = world.ask("/kill", token=token, id_="broken")
    assert (status, problem["found"]) == (503, NOBODY_RECOGNISED)
    assert "secret" not in json.dumps(problem)
    assert str(world.folder) not in json.dumps(problem)
    assert world.recorded("broken")["code"] == NOBODY_RECOGNISED
    assert not world.is_on()
    assert world.ask("/inference/predict", ROW)[0] == 200


def test_nobody_who_may_switch_waits_for_the_record_of_access(world: World) -> None:
    token = world.token("ops")
    log = world.desk.access_log.path
    with FileLock(log.with_name(log.name + ".lock")):  # as if the disk did not answer
        for number in range(40):
            assert world.ask("/kill", id_=f"w{number}")[0] == 401
        assert world.ask("/kill", token=token, id_="told")[0] == 200
        assert world.ask("/inference/predict", ROW)[0] == 503
    assert world.recorded("told")["subject"] == "ops"


def test_strangers_cost_the_record_a_bounded_number_of_lines(world: World) -> None:
    for number in range(50):
        assert world.ask("/kill", id_=f"n{number}")[0] == 401
    world.operators.stop()
    events = [e for e in world.desk.access_log.events() if e.get("code") == "no_token"]
    assert len(events) == 21
    assert sum(e.get("count", 1) for e in events) == 50


def test_the_description_says_who_is_asked_and_health_says_that_somebody_is(
    world: World, staged: Any
) -> None:
    document = world.ask("/openapi.json", method="GET")[1]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            asked = path in OPERATED
            assert ("security" in operation, "401" in operation["responses"]) == (asked, asked)
    assert "asks for a token" in world.stage.ask("GET", "/docs").body.decode()
    health = world.ask("/health", method="GET")[1]["dependencies"]["operators"]
    assert health == {"ok": True, "detail": "asked for tokens"}
    for exposed in (False, True):
        stage = staged(exposed=exposed)
        assert "security" not in json.dumps(stage.service.openapi())
        found = stage.ask("GET", "/health").json()
        assert found["dependencies"]["operators"]["ok"] is not exposed
        assert found["status"] == "ok"  # predictions are not worse for it


def test_without_tokens_whoever_switches_says_who_they_are(stage: Any) -> None:
    answer = stage.ask("POST", "/kill", {"reason": "x"})
    assert (answer.status, answer.json()["detail"]) == (422, "by: Field required")
    token = {"Authorization": "Bearer a.b.c"}
    assert stage.ask("POST", "/kill", {"by": "me", "reason": "x"}, more=token).status == 200
    assert not stage.switch.is_off()


def test_every_route_that_changes_something_is_asked_for(stage: Any) -> None:
    paths = stage.service.openapi()["paths"]
    predictions = {path for path in paths if stage.service.inference.answers(
        path.replace("{model}", "fx_vol").replace("{version}", "1.0.0"))}  # fmt: skip
    assert {path for path, operations in paths.items() if "post" in operations} == (
        OPERATED | predictions
    )
    assert set(SCOPES) == OPERATED


@pytest.mark.parametrize("operators", ["auto", "open", "tokens"])
@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("exposed", [False, True])
def test_tokens_are_asked_for_where_the_setting_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operators: str, users: bool, exposed: bool
) -> None:
    desk = tmp_path / "desk"
    bootstrap.create_desk(desk, name="desk", members=[])  # names users, though none yet
    if not users:
        (desk / "configs/access.yaml").unlink()
    monkeypatch.setenv("ASSAY_SERVING__OPERATORS", operators)
    if operators == "tokens" and not users:
        with pytest.raises(ConfigurationError, match="nobody could have one"):
            bootstrap.asks_for_tokens(desk, exposed=exposed)
        return
    expected = operators == "tokens" or (operators == "auto" and users and exposed)
    assert bootstrap.asks_for_tokens(desk, exposed=exposed) is expected
