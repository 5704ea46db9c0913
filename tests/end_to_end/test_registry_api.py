"""The registry over HTTP on a real socket: what callers may do, and everything they may not."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import tarfile
import threading
import time
from dataclasses import replace

import anyio
import jwt
import pytest
import uvicorn
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay import bootstrap
from assay.access import make_proof
from assay.access.repeated import WRITTEN
from assay.cli.addresses import listen
from assay.delivery.approvals import Approval
from assay.delivery.deployments import start_canary, start_shadow
from assay.delivery.judging import judge
from assay.domain.evidence import Evidence
from assay.domain.instants import render
from assay.domain.provenance import Provenance
from assay.domain.verdicts import Outcome
from assay.orchestration.login import ask_server
from assay.registry import Candidate, EventType
from assay.registry.collection import collect
from assay.registry.retention import Retention
from assay.registry.signing import Statement
from assay.registry_api.documents import ChallengersDocument, WholeVersion
from assay.registry_api.uploads import write_archive
from assay.serving.challengers.pair_log import Kept, PairLog, PairSums, segments
from assay.serving.challengers.pairs import Turn, encode_turns
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate

T0 = 1_700_000_000_000_000_000
SECOND = 10**9
USERS = """
users:
  author: {roles: [quant], identities: [author, author.laptop]}
  first: {roles: [mlops], identities: [first, first.laptop]}
  second: {roles: [quant, mlops]}
  ops: {roles: [mlops, sre, admin]}
  night: {roles: [sre]}
  audit: {roles: [auditor]}
  nightly: {kind: service, owner: second, roles: [mlops]}
  server: {kind: service, owner: ops, roles: []}
"""
GATES = """
kinds:
  risk_model: {gates: {ic: {rule: "<", threshold: 1, severity: hard}}}
"""
PEOPLE = ("author", "author.laptop", "first", "first.laptop", "second", "ops", "night", "audit",
          "nightly", "server")  # fmt: skip
ONE = "/api/v1/models/fx_vol/1.0.0"


class Api:
    """A server of a desk's registry, the desk, and those who call it."""

    def __init__(self, folder, clock):
        self.folder, self.clock = folder, clock
        self.desk = bootstrap.open_desk(folder, clock=clock)
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        app = bootstrap.open_registry_api(folder, clock=clock)
        config = uvicorn.Config(app, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]})
        self.thread.start()
        self.tokens = {}

    def stop(self):
        self.server.should_exit = True
        self.thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def registry(self):
        return self.desk.open_registry()

    def token(self, who):
        if who not in self.tokens:
            user = self.desk.access.user(who)
            issued = self.desk.authenticator.issue(user, 86_400 * 300, by="test")
            self.tokens[who] = issued.text
        return self.tokens[who]

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def ask(self, who, method, path, document=None, **headers):
        own = {"Authorization": f"Bearer {self.token(who)}"} if who else {}
        body = None if document is None else json.dumps(document)
        own |= {"Content-Type": "application/json"} if body else {}
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        status, content, back = self.raw(method, path, body, own)
        return status, json.loads(content) if content else None, back

    def sign(self, who, path, identity=None):
        """Fetch what is to be signed, and sign it with one's own key."""
        status, asked, _ = self.ask(who, "GET", path)
        assert status == 200, asked
        statement = Statement.from_bytes(asked["payload"].encode())
        return self.desk.keyring.sign(identity or asked["identity"], statement).to_json()

    def approve(self, who, one=ONE, identity=None):
        query = f"?identity={identity}" if identity else ""
        envelope = self.sign(who, f"{one}/approval-statement{query}", identity)
        return self.ask(who, "POST", f"{one}/approvals", {"envelope": envelope})

    def upload(self, who, candidate, **headers):
        path = self.folder.parent / "upload.tar"
        write_archive(path, candidate)
        return self.send(who, path.read_bytes(), candidate.metadata.name, **headers)

    def send(self, who, data, name="fx_vol", **headers):
        own = {"Authorization": f"Bearer {self.token(who)}", "Content-Type": "application/x-tar"}
        own |= {key.replace("_", "-"): value for key, value in headers.items()}
        status, content, _ = self.raw("POST", f"/api/v1/models/{name}/versions", data, own)
        return status, json.loads(content)

    def pass_gates(self, version="1.0.0", loss=0.5):
        registry = self.registry
        registry.record_evidence("fx_vol", version, [Evidence("ic", loss, 100, "mean")],
                                 initiated_by="author")  # fmt: skip
        report = judge(registry, self.desk.policy, "fx_vol", version, initiated_by="author")
        assert report.outcome is Outcome.PROMOTABLE

    def audited(self):
        """The last line of the record of access, its chain checked."""
        return self.desk.access_log.events()[-1]

    def refused(self, answer, status, code):
        """The answer is this refusal, in our form, and stands in the record of access."""
        found, document, *_ = answer
        assert (found, document["code"]) == (status, code), document
        assert document["type"] == f"urn:assay:problem:{code}"
        assert document["status"] == status
        line = self.audited()
        assert (line["event"], line["code"], line["request_id"]) == (
            "refused", code, document["request_id"],
        )  # fmt: skip
        return document


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        members = [
            bootstrap.Member(one, ("version", "approval", "promotion", "log_head"))
            for one in PEOPLE
        ]
        bootstrap.create_desk(folder / "desk", name="desk", members=members)
        (folder / "desk/configs/access.yaml").write_text(USERS)
        (folder / "desk/configs/gates.yaml").write_text(GATES)
        settings = folder / "desk/assay.yaml"
        settings.write_text(
            settings.read_text() + "\naccess: {server_identity: server, upload_bytes: 200000}\n"
        )
        desk = bootstrap.open_desk(folder / "desk", clock=FixedClock(T0))
        desk.authenticator.keys.rotate(T0)
        for number, version in enumerate(["1.0.0", "1.1.0", "1.2.0"]):
            desk.registry.register(
                make_candidate(version=version, weights=(number, 1), author="author")
            )
    return folder


@pytest.fixture(scope="module")
def shared(made, tmp_path_factory):
    """One server for all tests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        started = Api(folder / "desk", FixedClock(T0))
    yield started
    started.stop()


@pytest.fixture
def api(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    started = Api(tmp_path / "desk", FixedClock(T0))
    yield started
    started.stop()


def ready(api):
    api.pass_gates()
    for who in ("first", "second"):
        status, document, _ = api.approve(who)
        assert status == 200, document


def promote(api, who="ops"):
    envelope = api.sign(who, f"{ONE}/promotion-statement")
    return api.ask(who, "POST", f"{ONE}/promote", {"envelope": envelope, "reason": "better"})


# -- what works ---------------------------------------------------------------------------------


def test_a_version_travels_into_production_and_back_by_signed_statements(api):
    ready(api)
    status, done, _ = promote(api)
    assert (status, done["to_version"], done["approved_by"]) == (200, "1.0.0", ["first", "second"])
    status, now, _ = api.ask("audit", "GET", "/api/v1/models/fx_vol/current")
    assert (status, now["version"], now["stage"]) == (200, "1.0.0", "production")
    entry = api.registry.history("fx_vol")[-1]
    assert (entry.type, entry.initiated_by) == (EventType.PROMOTE, "ops")
    api.registry.verify_promoted("fx_vol", "1.0.0")
    before, then = "2023-11-14T22:13:19Z", "2023-11-14T22:13:20Z"
    for moment, version in ((before, None), (then, "1.0.0")):
        _, answer, _ = api.ask("audit", "GET", f"/api/v1/models/fx_vol/live?at={moment}")
        assert answer["version"] == version
    # Forced past the gates, and withdrawn by one person in one request.
    envelope = api.sign("night", "/api/v1/models/fx_vol/1.1.0/promotion-statement?break_glass=true")
    status, done, _ = api.ask(
        "night", "POST", "/api/v1/models/fx_vol/1.1.0/break-glass",
        {"envelope": envelope, "reason": "the market is closed tomorrow"},
    )  # fmt: skip
    assert (status, done["break_glass"]) == (200, True)
    status, back, _ = api.ask("night", "POST", "/api/v1/models/fx_vol/rollback", {"reason": "bad"})
    assert (status, back["to_version"], back["withdrawn_as"]) == (200, "1.0.0", "failed")
    loud = [e for e in api.registry.history("fx_vol") if e.type is EventType.BREAK_GLASS]
    assert [(e.initiated_by, e.reason) for e in loud] == [
        ("night", "the market is closed tomorrow")
    ]
    assert api.registry.verify_log().ok


def test_what_runs_beside_production_is_told(api):
    path = "/api/v1/models/fx_vol/challengers"
    _, nothing, _ = api.ask("audit", "GET", path)
    assert nothing == {"model": "fx_vol", "champion": None, "shadows": [], "canary": None}
    ready(api)
    promote(api)
    own = {"initiated_by": "ops", "reason": "a test", "monotonic": time.monotonic}
    shadow = start_shadow(api.registry, "fx_vol", "1.1.0", **own)
    canary = start_canary(api.registry, "fx_vol", "1.1.0", share=0.25, **own)
    status, found, _ = api.ask("audit", "GET", path)
    ChallengersDocument.model_validate(found)
    digest = api.registry.get("fx_vol", "1.1.0").digest
    assert (status, found["champion"]) == (200, "1.0.0")
    assert [(one["version"], one["digest"], one["seq"]) for one in found["shadows"]] == [
        ("1.1.0", digest, shadow.seq)
    ]
    told = found["canary"]
    assert (told["version"], told["digest"], told["champion"]) == ("1.1.0", digest, "1.0.0")
    assert (told["share"], told["revision"], told["by"]) == (0.25, canary.seq, "ops")
    assert (told["seen"], found["shadows"][0]["seen"]) == (None, None)  # no server wrote pairs here
    assert api.ask(None, "GET", path)[0] == 401
    assert api.ask("audit", "GET", "/api/v1/models/unknown/challengers")[0] == 404


def test_the_paired_log_is_read_only_for_challengers(api, monkeypatch):
    ready(api)
    promote(api)
    asked = []

    def known_days(sums):
        asked.append(sums)

    monkeypatch.setattr(PairSums, "known_days", known_days)
    path = "/api/v1/models/fx_vol/challengers"
    assert api.ask("audit", "GET", path)[0] == 200
    assert asked == []
    start_shadow(api.registry, "fx_vol", "1.1.0", initiated_by="ops", reason="a test",
                 monotonic=time.monotonic)  # fmt: skip
    assert api.ask("audit", "GET", path)[1]["shadows"][0]["seen"] is None
    assert len(asked) == 1


def test_how_much_a_challenger_was_seen_is_told_also_of_pairs_that_were_removed(api):
    ready(api)
    promote(api)
    own = {"initiated_by": "ops", "reason": "a test", "monotonic": time.monotonic}
    shadow = start_shadow(api.registry, "fx_vol", "1.1.0", **own)
    digests = [api.registry.get("fx_vol", one).digest for one in ("1.0.0", "1.1.0")]
    start = api.registry.now()
    log = PairLog(bootstrap.challenger_files(api.folder).pairs, Kept(1_000, 3_000))

    def write(first, last, **more):
        for number in range(first, last):
            at = start + number * 3_600 * SECOND
            answers = [None, 2.0] if number == 5 else [1.0, 2.0]
            said = {"champion_digest": digests[0], "revision": shadow.seq, **more}
            turn = Turn(
                recorded=at, model="fx_vol", champion="1.0.0", challenger="1.1.0",
                challenger_digest=digests[1], manifest=None, turn=number, prediction=[1.0, 2.0],
                shadow=answers, at=at, champion_ns=5, shadow_ns=6, **said,
            )  # fmt: skip
            log.append(encode_turns([turn]), at)

    def seen():
        status, found, _ = api.ask("audit", "GET", "/api/v1/models/fx_vol/challengers")
        ChallengersDocument.model_validate(found)
        assert status == 200
        return found["shadows"][0]["seen"]

    for first, last in ((0, 3), (3, 30), (30, 60)):
        write(first, last)
        incident = 5 if last > 5 else 0
        assert seen() == {
            "rows": 2 * last,
            "pairs": 2 * last - (last > 5),
            "without_answer": int(last > 5),
            "dropped": 0,
            "stable_hours": last - 1 - incident,
            "last": render(start + (last - 1) * 3_600 * SECOND),
        }
    assert len(segments(bootstrap.challenger_files(api.folder).pairs)) < 10
    write(60, 70, champion_digest="x")
    assert seen()["rows"] == 120


def test_an_archive_becomes_a_version_once(api):
    candidate = make_candidate(name="fx_new", author="author")
    status, first = api.upload("author", candidate)
    assert (status, first["created"], first["version"]) == (201, True, "1.0.0")
    status, again = api.upload("author", candidate)
    assert (status, again["created"]) == (200, False)
    opened = api.registry.open_version("fx_new", "1.0.0")
    assert opened.onnx == candidate.files["model.onnx"]
    assert (opened.metadata.author, opened.signed_by) == ("author", "server")


def definitions(version="1.0.0", **files):
    metadata = replace(
        make_candidate(author="author").metadata,
        name="fx_factors", version=version, kind="factor_definitions", config={},
    )  # fmt: skip
    own = {"CHANGES.md": b"Carry came.\n", "factors.yaml": b"carry: {window: 20}\n"}
    return Candidate(metadata, None, {**own, **files})


def test_definitions_without_a_model_are_uploaded_too(api):
    status, first = api.upload("author", definitions())
    assert (status, first["created"]) == (201, True)
    opened = api.registry.open_version("fx_factors", "1.0.0")
    assert not opened.is_model
    assert opened.contents == ("CHANGES.md", "factors.yaml")
    _, whole, _ = api.ask("audit", "GET", "/api/v1/models/fx_factors/1.0.0")
    assert (whole["schema"], whole["contents"]) == (None, ["CHANGES.md", "factors.yaml"])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("factors.pkl", b"\x80\x04N."),
        ("factors.yaml", b"a: ["),
        ("factors.exe", b"MZ"),
        ("manifest.json", b"{}"),
        ("model.onnx", b"x"),
    ],
)
def test_definitions_that_are_not_what_they_say_are_refused(shared, name, data):
    answer = shared.upload("author", definitions("2.0.0", **{name: data}))
    shared.refused(answer, 422, "contract_violation")
    assert "fx_factors" not in shared.registry.names()


def test_two_versions_are_compared_and_their_origins_told(shared):
    path = "/api/v1/models/fx_vol/comparison?before=1.0.0&after=1.1.0"
    status, found, headers = shared.ask("audit", "GET", path)
    assert (status, found["before"]["version"], found["after"]["version"]) == (
        200,
        "1.0.0",
        "1.1.0",
    )
    weights = {one["name"]: (one["before"], one["after"]) for one in found["configuration"]}
    assert weights["weights"] == ([0, 1], [1, 1])
    same = {one["name"] for one in found["files"] if one["equal"]}
    assert "sidecar.json" in same
    assert "model.onnx" not in same
    tag = headers["ETag"]
    assert shared.ask("audit", "GET", path, if_none_match=tag)[0] == 304
    own = bearer(shared.token("audit"))
    status, page, headers = shared.raw("GET", path.replace("?", "/page?"), None, own)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"<html" in page
    assert "sandbox" in headers["Content-Security-Policy"]
    status, graph, _ = shared.ask("audit", "GET", f"{ONE}/lineage")
    assert (status, graph["version"]) == (200, "1.0.0")
    assert "version fx_vol/1.0.0" in {node["id"] for node in graph["nodes"]}
    status, checked, _ = shared.ask("audit", "GET", f"{ONE}/lineage/check")
    assert (status, checked["model"]) == (200, "fx_vol")
    answer = shared.ask("audit", "GET", path.replace("1.1.0", "9.9.9"))
    assert (answer[0], answer[1]["code"]) == (404, "not_found")


def test_pages_of_the_desk_are_listed_and_read_and_nothing_beside_them(api):
    folder = api.folder / "reports"
    (folder / "models").mkdir(parents=True)
    (folder / "models/fx_vol.html").write_text("<p>fine</p>")
    (folder / ".hidden.html").write_text("no")
    (folder / "secret.txt").write_text("no")
    (folder / "linked.html").symlink_to(api.folder / "assay.yaml")
    _, listed, _ = api.ask("audit", "GET", "/api/v1/reports")
    assert [one["name"] for one in listed["items"]] == ["models/fx_vol.html"]
    own = bearer(api.token("audit"))
    page = "/api/v1/reports/page?name="
    status, content, _ = api.raw("GET", f"{page}models/fx_vol.html", None, own)
    assert (status, content) == (200, b"<p>fine</p>")
    for name in ("../assay.yaml", "secret.txt", "linked.html", ".hidden.html", "/etc/passwd",
                 "models/../models/fx_vol.html", "models%2f..%2f..%2fassay.yaml"):  # fmt: skip
        status, content, _ = api.raw("GET", page + name, None, own)
        assert (status, json.loads(content)["code"]) == (404, "not_found")
    api.refused(api.ask("server", "GET", "/api/v1/reports"), 403, "missing_scope")


def test_the_description_has_a_form_and_an_example_for_every_answer(shared):
    _, document, _ = shared.ask(None, "GET", "/openapi.json")
    described = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation["responses"]["200"]["content"]
            assert list(content) in (["application/json"], ["text/html"]), (method, path)
            if "application/json" in content:
                assert "$ref" in content["application/json"]["schema"], (method, path)
                described += 1
    assert described > 20
    for name, schema in document["components"]["schemas"].items():
        if schema.get("additionalProperties") is False:
            assert schema["required"], name


def test_a_server_follows_what_other_processes_do_without_opening_anew(api):
    """The registry that the server keeps open meets changes of another and half-done ones."""
    path = "/api/v1/models/fx_vol/versions"
    assert len(api.ask("audit", "GET", path)[1]["items"]) == 3
    beside = bootstrap.open_desk(api.folder, clock=api.clock).registry
    beside.register(make_candidate(version="2.0.0", weights=(7, 1), author="author"))
    assert len(api.ask("audit", "GET", path)[1]["items"]) == 4
    # A process that died after its entry was in the log, before the index had it.
    database = api.folder / "data/models/registry.db"
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    beside.rebuild()
    kept = {one: one.read_bytes() for one in database.parent.glob("registry.db*")}
    beside.register(make_candidate(version="2.1.0", weights=(8, 1), author="author"))
    for one in database.parent.glob("registry.db*"):
        one.unlink()
    for one, data in kept.items():
        one.write_bytes(data)
    status, document, _ = api.ask("audit", "GET", "/api/v1/models/fx_vol/2.1.0")
    assert (status, document["record"]["version"]) == (200, "2.1.0")
    # A log that was cut is refused by the server that is running, too.
    log = api.folder / "data/models/log/events.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    answer = api.ask("audit", "GET", path)
    assert (answer[0], answer[1]["code"]) == (409, "tampered")


@pytest.mark.parametrize("where", ["objects", "postgresql and objects"])
def test_what_is_uploaded_is_where_the_settings_put_the_registry(
    made, tmp_path, monkeypatch, where, request
):
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "desk/assay.yaml"
    document = yaml.safe_load(path.read_text())
    document["registry"]["artifacts"] = "objects"
    if where.startswith("postgresql"):
        document["registry"]["catalogue"] = request.getfixturevalue("postgres_url")
    shutil.rmtree(tmp_path / "desk/data/models")
    shutil.rmtree(tmp_path / "desk/observability/audit", ignore_errors=True)
    path.write_text(yaml.safe_dump(document))
    api = Api(tmp_path / "desk", FixedClock(T0))
    try:
        status, _ = api.upload("author", make_candidate(author="author"))
        assert status == 201
        beside = bootstrap.open_desk(tmp_path / "desk", clock=api.clock).registry
        assert [one.version for one in beside.list("fx_vol")] == ["1.0.0"]
        assert beside.validate("fx_vol", "1.0.0").ok
        assert not [*(tmp_path / "desk/data/models").rglob("model.onnx")]
        in_files = [*(tmp_path / "desk/data/models").glob("log/events.jsonl")]
        assert len(in_files) == (not where.startswith("postgresql"))
        ready(api)
        assert promote(api)[0] == 200
        assert beside.current("fx_vol").version == "1.0.0"
        assert api.upload("author", definitions())[0] == 201
        # Pages and filters are the database's work: each has its own.
        _, models, _ = api.ask("audit", "GET", "/api/v1/models?limit=1&after=fx_factors")
        assert [(one["name"], one["current"]["version"]) for one in models["items"]] == [
            ("fx_vol", "1.0.0")
        ]
        _, models, _ = api.ask("audit", "GET", "/api/v1/models?kind=factor_definitions")
        assert [one["name"] for one in models["items"]] == ["fx_factors"]
        path = "/api/v1/models/fx_vol/versions"
        for query, found in (("after=0.9.0", 1), ("after=1.0.0", 0), ("stage=failed", 0),
                             ("author=author&stage=production", 1)):  # fmt: skip
            _, page, _ = api.ask("audit", "GET", f"{path}?{query}")
            assert len(page["items"]) == found, query
        _, history, _ = api.ask("audit", "GET", "/api/v1/models/fx_vol/history?limit=2&after=1")
        assert ([one["seq"] for one in history["items"]], history["next"]) == ([2, 3], 3)
        report = api.registry.verify_log()
        assert report.ok, report.problems
    finally:
        api.stop()


def test_pages_and_filters_cover_everything_once(shared):
    seen, after = [], ""
    while after is not None:
        query = f"?limit=2{f'&after={after}' if after else ''}"
        _, page, _ = shared.ask("audit", "GET", f"/api/v1/models/fx_vol/versions{query}")
        seen += [item["version"] for item in page["items"]]
        after = page["next"]
    assert seen == ["1.0.0", "1.1.0", "1.2.0"]
    _, none, _ = shared.ask("audit", "GET", "/api/v1/models/fx_vol/versions?stage=failed")
    assert none == {"items": [], "next": None}
    _, history, _ = shared.ask(
        "audit", "GET", "/api/v1/models/fx_vol/history?type=register&limit=1"
    )
    assert [item["to_version"] for item in history["items"]] == ["1.0.0"]
    _, models, _ = shared.ask("audit", "GET", "/api/v1/models")
    assert [(item["name"], item["versions"]) for item in models["items"]] == [("fx_vol", 3)]


def test_what_the_caller_has_already_is_not_sent_again(api):
    status, _, headers = api.ask("audit", "GET", "/api/v1/models/fx_vol")
    tag = headers["ETag"]
    status, nothing, _ = api.ask("audit", "GET", "/api/v1/models/fx_vol", if_none_match=tag)
    assert (status, nothing) == (304, None)
    ready(api)
    assert promote(api)[0] == 200
    status, document, _ = api.ask("audit", "GET", "/api/v1/models/fx_vol", if_none_match=tag)
    assert (status, document["current"]["version"]) == (200, "1.0.0")
    rolling = {"reason": "x"}
    answer = api.ask("ops", "POST", "/api/v1/models/fx_vol/rollback", rolling, if_match=tag)
    api.refused(answer, 412, "changed_meanwhile")


def test_a_request_that_is_sent_again_with_its_key_happens_once(api):
    ready(api)
    envelope = api.sign("ops", f"{ONE}/promotion-statement")
    body = {"envelope": envelope, "reason": "better"}
    first = api.ask("ops", "POST", f"{ONE}/promote", body, idempotency_key="k1")
    again = api.ask("ops", "POST", f"{ONE}/promote", body, idempotency_key="k1")
    assert (first[0], first[1]) == (again[0], again[1])
    assert (again[0], again[2]["Idempotency-Replayed"]) == (200, "true")
    entries = [e for e in api.registry.history("fx_vol") if e.type is EventType.PROMOTE]
    assert len(entries) == 1
    other = api.ask("ops", "POST", f"{ONE}/promote", {**body, "reason": "x"}, idempotency_key="k1")
    api.refused(other, 422, "other_request")
    fresh = api.ask("ops", "POST", f"{ONE}/promote", body, idempotency_key="k2")
    api.refused(fresh, 409, "refused")


def test_a_proof_is_exchanged_for_a_token_once(shared):
    envelope = make_proof(shared.desk.keyring, "first.laptop", "assay:desk", T0)
    token, expires_at = ask_server(shared.url, envelope)
    assert expires_at == T0 // SECOND + 3_600
    status, me, _ = shared.ask(None, "GET", "/api/v1/me", Authorization=f"Bearer {token}")
    assert (status, me["name"]) == (200, "first")
    answer = shared.ask(None, "POST", "/api/v1/login", {"envelope": envelope.to_json()})
    shared.refused(answer, 401, "replayed_proof")


def test_two_servers_and_a_command_line_beside_them_agree(api):
    second = Api(api.folder, api.clock)
    try:
        ready(api)
        answers = []
        envelope = api.sign("ops", f"{ONE}/promotion-statement")
        body = {"envelope": envelope, "reason": "better"}
        both = [
            threading.Thread(
                target=lambda one: answers.append(one.ask("ops", "POST", f"{ONE}/promote", body)),
                args=(one,),
            )
            for one in (api, second)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert sorted(status for status, *_ in answers) == [200, 409], answers
        assert api.registry.current("fx_vol").version == "1.0.0"
        assert api.registry.verify_log().ok
    finally:
        second.stop()


# -- who may not --------------------------------------------------------------------------------


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def forged(api, key, algorithm="EdDSA", **changed):
    claims = {
        "iss": "assay:desk", "aud": "assay:desk", "sub": "ops", "jti": "1",
        "iat": T0 // SECOND, "nbf": T0 // SECOND, "exp": T0 // SECOND + 60,
    } | changed  # fmt: skip
    kid = api.desk.authenticator.keys.listed()[-1].key_id
    return jwt.encode(claims, key, algorithm, headers={"kid": kid})


def test_every_bad_token_is_refused_with_its_own_reason_and_audited(shared):
    _, key = shared.desk.authenticator.keys.signing_key()
    header, body, _ = forged(shared, key).split(".")
    altered = forged(shared, key, sub="audit").split(".")
    nothing = jwt.encode({"sub": "ops"}, None, "none")
    cases = {
        "no_token": {},
        "expired": bearer(forged(shared, key, exp=T0 // SECOND)),
        "wrong_audience": bearer(forged(shared, key, aud="another")),
        "algorithm_none": bearer(nothing),
        "wrong_algorithm": bearer(forged(shared, b"x" * 64, "HS256")),
        "wrong_signature": bearer(f"{header}.{body}.{altered[2]}"),
        "malformed_token": bearer("x"),
    }
    for code, headers in cases.items():
        for method, path in (("GET", "/api/v1/models"), ("POST", f"{ONE}/promote")):
            status, content, back = shared.raw(method, path, None, headers)
            shared.refused((status, json.loads(content)), 401, code)
            assert back["WWW-Authenticate"] == "Bearer"
    text = shared.desk.access_log.path.read_text()
    assert all(part not in text for part in (header, body, altered[2]))


@pytest.mark.parametrize(
    ("who", "method", "path"),
    [
        ("audit", "POST", f"{ONE}/gates"),
        ("audit", "GET", f"{ONE}/approval-statement"),
        ("author", "GET", f"{ONE}/promotion-statement"),
        ("first", "GET", f"{ONE}/promotion-statement?break_glass=true"),
        ("server", "GET", "/api/v1/models"),
    ],
)
def test_a_role_that_does_not_allow_it_is_refused(shared, who, method, path):
    shared.refused(
        shared.ask(who, method, path, {} if method == "POST" else None), 403, "missing_scope"
    )


def test_reading_does_not_let_anyone_roll_back_or_upload(shared):
    answer = shared.ask("audit", "POST", "/api/v1/models/fx_vol/rollback", {"reason": "x"})
    shared.refused(answer, 403, "missing_scope")
    shared.refused(shared.upload("audit", make_candidate(author="audit")), 403, "missing_scope")


def test_nobody_approves_their_own_work_under_any_name(api):
    api.pass_gates()
    for identity in ("author", "author.laptop"):
        asked = f"{ONE}/approval-statement?identity={identity}"
        document = api.refused(api.ask("author", "GET", asked), 409, "refused")
        assert "is the author" in document["detail"]
        report = api.registry.gate_record("fx_vol", "1.0.0")
        own = Approval(
            "fx_vol", "1.0.0", report.version_digest, report.digest, identity, T0, T0 + SECOND
        ).to_statement()
        envelope = api.desk.keyring.sign(identity, own).to_json()
        answer = api.ask("author", "POST", f"{ONE}/approvals", {"envelope": envelope})
        assert "is the author" in api.refused(answer, 409, "refused")["detail"]
    assert api.registry.approvals("fx_vol", "1.0.0") == ()


def test_one_person_with_two_keys_or_two_roles_is_one_person(api):
    api.pass_gates()
    assert api.approve("first")[0] == 200
    status, document, _ = api.ask("first", "GET", f"{ONE}/approval-statement?identity=first.laptop")
    assert status == 200  # signing is not forbidden; what is sent is judged
    statement = Statement.from_bytes(document["payload"].encode())
    envelope = api.desk.keyring.sign("first.laptop", statement).to_json()
    answer = api.ask("first", "POST", f"{ONE}/approvals", {"envelope": envelope})
    assert "one person counts once" in api.refused(answer, 409, "refused")["detail"]
    # Second holds two roles and owns a service: still one.
    assert api.approve("second")[0] == 200
    status, seen, _ = api.ask("audit", "GET", f"{ONE}/approvals")
    assert seen["count"]["approvers"] == ["first", "second"]


def test_a_service_approves_nothing(api):
    api.pass_gates()
    answer = api.ask("nightly", "GET", f"{ONE}/approval-statement")
    api.refused(answer, 403, "not_a_person")


def test_an_approval_is_sent_by_whoever_signed_it(api):
    api.pass_gates()
    envelope = api.sign("first", f"{ONE}/approval-statement")
    answer = api.ask("second", "POST", f"{ONE}/approvals", {"envelope": envelope})
    api.refused(answer, 403, "other_person")
    taken = api.ask("second", "GET", f"{ONE}/approval-statement?identity=first")
    api.refused(taken, 403, "other_person")


def test_an_approval_for_something_else_is_refused(api):
    api.pass_gates("1.1.0", loss=0.4)
    elsewhere = "/api/v1/models/fx_vol/1.1.0"
    envelope = api.sign("first", f"{elsewhere}/approval-statement")
    api.pass_gates()
    answer = api.ask("first", "POST", f"{ONE}/approvals", {"envelope": envelope})
    assert "is for fx_vol 1.1.0" in api.refused(answer, 403, "wrong_statement")["detail"]


def test_an_approval_with_another_digest_or_a_longer_life_is_refused(api):
    api.pass_gates()
    _, asked, _ = api.ask("first", "GET", f"{ONE}/approval-statement")
    right = Statement.from_bytes(asked["payload"].encode())
    for changed in (
        {"version_digest": "0" * 64}, {"gate_report_digest": "0" * 64},
        {"expires_at": "2024-11-14T22:13:20Z"}, {"granted_at": "2023-11-20T00:00:00Z"},
        {"approver": "second"}, {"approver": 7}, {"extra": 1}, {"expires_at": "soon"},
    ):  # fmt: skip
        predicate = {**right.predicate, **changed}
        subjects = {"fx_vol/1.0.0": predicate["version_digest"]}
        wrong = replace(right, predicate=predicate, subjects=subjects)
        envelope = api.desk.keyring.sign("first", wrong).to_json()
        answer = api.ask("first", "POST", f"{ONE}/approvals", {"envelope": envelope})
        api.refused(answer, 403, "wrong_statement")
    assert api.registry.approvals("fx_vol", "1.0.0") == ()


def test_an_approval_does_not_outlive_its_evidence_or_its_time(api):
    api.pass_gates()
    envelope = api.sign("first", f"{ONE}/approval-statement")
    assert api.ask("first", "POST", f"{ONE}/approvals", {"envelope": envelope})[0] == 200
    api.pass_gates(loss=0.6)
    replayed = api.ask("first", "POST", f"{ONE}/approvals", {"envelope": envelope})
    assert "not the latest" in api.refused(replayed, 403, "wrong_statement")["detail"]
    fresh = api.sign("first", f"{ONE}/approval-statement")
    api.clock.advance(25 * 3_600 * SECOND)
    late = api.ask("first", "POST", f"{ONE}/approvals", {"envelope": fresh})
    api.refused(late, 403, "wrong_statement")


def test_the_same_approval_again_adds_nothing(api):
    api.pass_gates()
    envelope = api.sign("first", f"{ONE}/approval-statement")
    for _ in range(2):
        assert api.ask("first", "POST", f"{ONE}/approvals", {"envelope": envelope})[0] == 200
    assert len(api.registry.approvals("fx_vol", "1.0.0")) == 1
    status, document, _ = api.ask("ops", "GET", f"{ONE}/promotion-statement")
    assert (status, document["code"]) == (409, "refused")


def test_an_approver_who_lost_the_role_does_not_count_any_more(api):
    ready(api)
    users = api.folder / "configs/access.yaml"
    users.write_text(USERS.replace("second: {roles: [quant, mlops]}", "second: {roles: [sre]}"))
    status, document, _ = api.ask("ops", "GET", f"{ONE}/promotion-statement")
    assert (status, document["code"]) == (409, "refused")
    assert "do not allow model:approve" in document["detail"]


def test_a_list_of_users_that_cannot_be_read_refuses_everybody_and_says_why(api):
    users = api.folder / "configs/access.yaml"
    token = api.token("audit")
    path = "/api/v1/models/fx_vol"

    def make_absent():
        users.unlink()

    def make_folder():
        users.mkdir()

    for spoil, why in (
        (lambda: users.write_text("users: [s3cret-word\n"), "not readable as YAML"),
        (make_absent, "there is none"),
        (make_folder, "not readable as text"),
    ):
        spoil()
        own = {"Authorization": f"Bearer {token}"}
        for method, body in (("GET", None), ("POST", b"{}")):
            status, content, _ = api.raw(method, path, body, own)
            document = api.refused((status, json.loads(content)), 503, "users_unreadable")
            assert "list of users cannot be read" in document["detail"]
            assert "assay access users" in document["hint"]
            assert b"s3cret" not in content, "what stands in the file is not for strangers"
            assert why in api.audited()["detail"]
        assert api.raw("GET", "/health")[0] == 200
    proof = make_proof(api.desk.keyring, "ops", api.desk.access_layout.audience, T0)
    login = api.ask(None, "POST", "/api/v1/login", {"envelope": proof.to_json()})
    api.refused(login, 503, "users_unreadable")
    users.rmdir()
    users.write_text(USERS)
    assert api.ask("audit", "GET", path)[0] == 200
    assert api.ask(None, "POST", "/api/v1/login", {"envelope": proof.to_json()})[0] == 200


def test_an_answer_says_that_the_log_was_cut_together_with_its_index(api):
    root = api.folder / "data/models"
    live, head = "/api/v1/models/fx_vol/live", "/api/v1/log/head"
    kept = {name: (root / name).read_bytes() for name in ("log/events.jsonl", "registry.db")}
    ready(api)
    assert promote(api)[0] == 200
    for path in (live, head):
        assert api.ask("audit", "GET", path)[1]["doubts"] == []
    api.registry.close()
    for suffix in ("-wal", "-shm"):
        (root / f"registry.db{suffix}").unlink(missing_ok=True)
    for name, data in kept.items():
        (root / name).write_bytes(data)
    for path in (live, head):
        status, document, _ = api.ask("audit", "GET", path)
        assert status == 200, document
        assert any("the log at 3: cut off" in doubt for doubt in document["doubts"])
    assert api.ask("audit", "GET", live)[1]["version"] is None


def test_a_promotion_is_signed_by_its_caller_and_about_what_is_asked(api):
    ready(api)
    envelope = api.sign("first", f"{ONE}/promotion-statement")
    body = {"envelope": envelope, "reason": "x"}
    api.refused(api.ask("ops", "POST", f"{ONE}/promote", body), 403, "other_person")
    approval = api.sign("first", f"{ONE}/approval-statement")
    wrong = api.ask("first", "POST", f"{ONE}/promote", {"envelope": approval})
    api.refused(wrong, 403, "wrong_statement")
    _, asked, _ = api.ask("first", "GET", f"{ONE}/promotion-statement")
    right = Statement.from_bytes(asked["payload"].encode())
    for changed in (
        {"approvers": ["first", "ops"]}, {"to_version": "1.1.0"}, {"break_glass": True},
        {"expires_at": "2024-11-14T22:13:20Z"}, {"from_digest": "0" * 64},
    ):  # fmt: skip
        wrong = replace(right, predicate={**right.predicate, **changed})
        made = api.desk.keyring.sign("first", wrong).to_json()
        answer = api.ask("first", "POST", f"{ONE}/promote", {"envelope": made})
        api.refused(answer, 403, "wrong_statement")
    assert api.registry.current("fx_vol") is None


def test_breaking_the_glass_needs_its_own_role_statement_and_reason(api):
    path = f"{ONE}/promotion-statement?break_glass=true"
    envelope = api.sign("night", path)
    target = f"{ONE}/break-glass"
    api.refused(api.ask("night", "POST", target, {"envelope": envelope}), 422, "invalid_request")
    blank = {"envelope": envelope, "reason": "  "}
    api.refused(api.ask("night", "POST", target, blank), 422, "contract_violation")
    answer = api.ask("first", "POST", target, {"envelope": envelope, "reason": "x"})
    api.refused(answer, 403, "missing_scope")


# -- what is sent -------------------------------------------------------------------------------


def archive(*members):
    """A tar of (name, content, type) members, whatever they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


REGULAR, SYMLINK, HARDLINK, FOLDER, DEVICE = (
    tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE,
)  # fmt: skip


@pytest.mark.parametrize(
    "members",
    [
        [("../../escape.onnx", b"x", REGULAR)],
        [("/etc/cron.d/x", b"x", REGULAR)],
        [("folder/model.onnx", b"x", REGULAR)],
        [("./model.onnx", b"x", REGULAR)],
        [("model.pkl", b"x", REGULAR)],
        [("model.onnx", b"", SYMLINK)],
        [("model.onnx", b"", HARDLINK)],
        [("model.onnx", b"", FOLDER)],
        [("model.onnx", b"", DEVICE)],
        [("model.onnx", b"x", REGULAR), ("model.onnx", b"y", REGULAR)],
        [("candidate.json", b"[", REGULAR)],
        [("candidate.json", b"[" * 100_000, REGULAR)],
        [("candidate.json", b'{"metadata": 1, "schema": 2}', REGULAR)],
        [],
    ],
    ids=lambda members: "+".join(f"{m[0]}:{m[2].decode()}" for m in members) or "empty",
)
def test_an_archive_that_is_not_exactly_a_version_is_refused(shared, members):
    before = sorted(path.name for path in shared.folder.rglob("*"))
    shared.refused(shared.send("author", archive(*members)), 422, "bad_archive")
    new = {path.name for path in shared.folder.rglob("*")} - set(before)
    assert new <= {"access_events.jsonl", "access_events.jsonl.lock", "access"}


def test_a_compressed_archive_and_one_that_ends_early_are_refused(shared, tmp_path):
    import gzip

    write_archive(tmp_path / "a.tar", make_candidate(author="author", version="2.0.0"))
    whole = (tmp_path / "a.tar").read_bytes()
    shared.refused(shared.send("author", gzip.compress(whole)), 422, "bad_archive")
    shared.refused(shared.send("author", whole[:700]), 422, "bad_archive")
    answer = shared.send("author", whole, content_encoding="gzip")
    shared.refused(answer, 415, "wrong_media_type")


def test_fields_of_a_candidate_of_a_wrong_kind_are_refused(shared, tmp_path):
    candidate = make_candidate(author="author", version="2.0.0")
    right = {"metadata": candidate.metadata.to_json(), "schema": candidate.schema.to_json()}
    for name, value in (
        ("snapshot_ids", ["x"]), ("baseline", {"x": 1}), ("policy", [1]), ("config", "x"),
        ("metrics", [1]), ("created_at", 5), ("training_set_rows", "1"), ("author", "A B"),
        ("version", "1.0.0'; DROP TABLE versions"), ("name", "../x"), ("kind", "a'b"),
        ("seeds", 1), ("name", None), ("version", {}), ("unknown", 1),
    ):  # fmt: skip
        wrong = {**right, "metadata": {**right["metadata"], name: value}}
        members = {"candidate.json": json.dumps(wrong).encode(), **candidate.files}
        data = archive(*((key, content, REGULAR) for key, content in members.items()))
        shared.refused(shared.send("author", data), 422, "bad_archive")


def test_work_of_another_author_is_not_uploaded(shared):
    answer = shared.upload("second", make_candidate(author="author", version="2.0.0"))
    shared.refused(answer, 403, "other_person")
    mismatch = make_candidate(name="fx_other", author="author")
    path = shared.folder.parent / "upload.tar"
    write_archive(path, mismatch)
    shared.refused(shared.send("author", path.read_bytes(), "fx_vol"), 422, "bad_archive")


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(shared):
    shared.refused(shared.send("author", b"x" * 200_001), 413, "too_large")
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=30)
    connection.request(
        "POST", "/api/v1/models/fx_vol/versions", iter([b"x" * 100_000] * 3),
        {"Authorization": f"Bearer {shared.token('author')}", "Content-Type": "application/x-tar"},
        encode_chunked=True,
    )  # fmt: skip
    answer = connection.getresponse()
    shared.refused((answer.status, json.loads(answer.read())), 413, "too_large")
    connection.close()
    huge = {"reason": "x" * 1_100_000}
    answer = shared.ask("ops", "POST", "/api/v1/models/fx_vol/rollback", huge)
    shared.refused(answer, 413, "too_large")
    assert list((shared.folder / "data/access").glob("tmp*")) == []


SQL = "x' OR '1'='1'; DROP TABLE versions; --"


def test_sql_and_paths_in_every_field_are_text_or_refused(shared):
    from urllib.parse import quote

    registry = shared.registry
    before = list(registry._catalogue.dump())
    for text in (SQL, "../../etc/passwd", "..%2f..", "%00", "a\x00b", "\u202e", "%ff"):
        part = quote(text, safe="")
        for path in (
            f"/api/v1/models/{part}", f"/api/v1/models/{part}/current",
            f"/api/v1/models/fx_vol/{part}", f"/api/v1/models/fx_vol/{part}/gates",
            f"/api/v1/models/fx_vol/versions?after={part}",
            f"/api/v1/models/fx_vol/versions?stage={part}",
            f"/api/v1/models/fx_vol/history?type={part}",
            f"/api/v1/models/fx_vol/live?at={part}",
        ):  # fmt: skip
            status, document, _ = shared.ask("audit", "GET", path)
            assert status in {404, 422}, (path, document)
            if document["code"] != "not_found":
                assert shared.audited()["request_id"] == document["request_id"]
        for path in (
            f"/api/v1/models?kind={part}",
            f"/api/v1/models/fx_vol/versions?author={part}",
        ):
            status, document, _ = shared.ask("audit", "GET", path)
            assert (status, document["items"]) == (200, [])
        rolling = {"reason": text, "target": text}
        answer = shared.ask("ops", "POST", "/api/v1/models/fx_vol/rollback", rolling)
        shared.refused(answer, 422, "invalid_request")
        answer = shared.ask("ops", "POST", "/api/v1/models/fx_vol/rollback", {"reason": text},
                         idempotency_key="k")  # fmt: skip
        shared.refused(answer, 404, "not_found")
    assert list(shared.registry._catalogue.dump()) == before


def test_text_that_has_no_bytes_is_refused_in_words(api):
    ready(api)
    promote(api)
    answer = api.ask("ops", "POST", "/api/v1/models/fx_vol/rollback", {"reason": "\udc80"})
    assert answer[0] in {404, 422}, answer


def test_a_linked_version_folder_is_not_followed(api):
    folder = api.folder / "data/models/artifacts/fx_vol/1.0.0"
    (folder.parent).chmod(0o755)
    moved = api.folder.parent / "moved"
    folder.rename(moved)
    folder.symlink_to(moved)
    status, document, _ = api.ask("audit", "GET", ONE)
    assert (status, document["code"]) == (409, "tampered")


def test_wrong_methods_paths_and_bodies_have_the_same_form(shared):
    shared.refused(shared.ask("ops", "POST", "/api/v1/models"), 405, "wrong_method")
    shared.refused(shared.ask("ops", "POST", "/api/v1/nothing"), 404, "unknown_path")
    status, content, _ = shared.raw(
        "POST", "/api/v1/models/fx_vol/rollback", b"{",
        bearer(shared.token("ops")) | {"Content-Type": "application/json"},
    )  # fmt: skip
    shared.refused((status, json.loads(content)), 422, "invalid_request")


def test_the_log_of_access_says_who_did_what_under_which_number(api):
    answer = api.ask("ops", "POST", f"{ONE}/gates", {}, x_request_id="mine-1")
    assert answer[2]["X-Request-Id"] == "mine-1"
    line = api.audited()
    assert (line["subject"], line["request_id"]) == ("ops", "mine-1")
    assert str(api.desk.access_layout.private_keys) not in json.dumps(api.desk.access_log.events())


def test_the_description_knows_every_part_of_a_measurement(api):
    origin = Provenance(
        measured_at=T0,
        convention_id="ic/1",
        model_digest=api.registry.get("fx_vol", "1.0.0").digest,
    )
    piece = Evidence("ic", 0.03, 500, "mean", (0.01, 0.05), {"level": 0.95}, origin)
    api.registry.record_evidence("fx_vol", "1.0.0", [piece], initiated_by="author")
    _, found, _ = api.ask("audit", "GET", ONE)
    assert found["evidence"] == [piece.to_json()]
    WholeVersion.model_validate(found)


# -- any request at all -------------------------------------------------------------------------


def any_case(operation):
    """Requests as documented, and others where the documentation leaves any."""
    from schemathesis import GenerationMode

    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not operation.path_parameters and not operation.query and not operation.body:
        return right
    return right | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def ask_anything(api, examples):
    """Requests made from the OpenAPI document, right and wrong ones: each answer is documented."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    @schemathesis.serializer("application/x-tar")
    def as_bytes(_context, value):
        return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")

    checks = [
        not_a_server_error, status_code_conformance, content_type_conformance,
        response_headers_conformance, response_schema_conformance,
    ]  # fmt: skip
    schema = schemathesis.openapi.from_url(f"{api.url}/openapi.json")
    own = {"Authorization": f"Bearer {api.token('ops')}"}
    seen = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
        @given(case=any_case(operation), known=st.booleans())
        def ask(case, known):
            if known and case.path_parameters:
                # A model that is there, or most requests would end at its name.
                there = {"name": "fx_vol", "version": "1.0.0"}
                case.path_parameters = {key: there[key] for key in case.path_parameters}
            answer = case.call_and_validate(headers=own, checks=checks)
            seen.add(answer.status_code // 100)

        ask()
    assert seen >= {2, 4}
    assert api.registry.verify_log().ok
    assert api.desk.access_log.events()


def test_any_request_from_the_description_gets_a_documented_answer(shared):
    ask_anything(shared, 5)


@pytest.mark.long
def test_a_great_many_requests_from_the_description_get_documented_answers(api):
    ask_anything(api, 300)


def test_a_collected_version_is_gone_and_the_answer_says_when_and_by_whom(api):
    api.desk.clock.advance(3 * 86_400 * SECOND)
    done = collect(api.registry, Retention(staged_days=1), initiated_by="ops")
    assert len(done.collected) == 3
    status, document, _ = api.ask("audit", "GET", ONE)
    assert (status, document["code"], document["title"]) == (410, "gone", "Gone")
    assert "were collected at 2023-11-17" in document["detail"]
    assert "by ops (log entry 4)" in document["detail"]
    assert "assay models bring-back fx_vol 1.0.0" in document["hint"]
    assert api.ask("audit", "GET", "/api/v1/models/fx_vol/9.0.0")[0] == 404


def test_a_stranger_who_asks_a_thousand_times_adds_some_lines_and_a_count(api):
    before = len(api.desk.access_log.events())
    for _ in range(WRITTEN + 30):
        assert api.raw("GET", "/api/v1/models")[0] == 401
    assert len(api.desk.access_log.events()) == before + WRITTEN
    api.desk.clock.advance(61 * SECOND)
    assert api.raw("GET", "/health")[0] == 200
    last = api.audited()
    assert (last["code"], last["count"], last["place"]) == ("no_token", 30, "127.0.0.1")
    # Who is known is written down each time.
    for _ in range(WRITTEN + 5):
        api.refused(api.ask("audit", "POST", f"{ONE}/gates", {}), 403, "missing_scope")


def test_a_server_that_stops_writes_what_it_had_counted(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    app = bootstrap.open_registry_api(tmp_path / "desk", clock=FixedClock(T0))
    asked = {"type": "http", "method": "GET", "path": "/api/v1/models", "headers": [],
             "client": ("192.0.2.7", 5)}  # fmt: skip
    steps = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def run():
        async def receive():
            return steps.pop(0)

        async def send(message):
            said.append(message)

        said = []
        for _ in range(WRITTEN + 3):
            await app({**asked}, receive, send)
        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        return said

    assert anyio.run(run)[-1]["type"] == "lifespan.shutdown.complete"
    desk = bootstrap.open_desk(tmp_path / "desk", clock=FixedClock(T0))
    last = desk.access_log.events()[-1]
    assert (last["count"], last["place"]) == (3, "192.0.2.7")
