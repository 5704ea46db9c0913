import json
import math
import shutil
import time

import pytest

from assay.delivery.promotion import break_glass
from assay.errors import Conflict, ContractViolation, NotFound
from assay.registry import EventType
from assay.registry.lifecycle import MOVES
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, make_candidate, make_registry

T0 = 1_700_000_000_000_000_000
FINDING = {"verdict": "FAIL", "reasons": ["PSI 4 of at most 0.25"], "evidence": {"psi": 4.0}}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """1.0.0 is archived, 1.1.0 in production, 1.2.0 staged."""
    folder = tmp_path_factory.mktemp("requests")
    made = make_registry(folder, FixedClock(T0))
    for index, version in enumerate(["1.0.0", "1.1.0", "1.2.0"]):
        made.register(make_candidate(version=version, weights=(index, 1)))
    for version in ["1.0.0", "1.1.0"]:
        break_glass(
            made, "fx_vol", version, initiated_by=AUTHOR, reason="test", clock=made.clock,
            monotonic=time.monotonic,
        )  # fmt: skip
    return folder


@pytest.fixture
def registry(template, tmp_path):
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    return make_registry(tmp_path, FixedClock(T0))


def ask(registry, name="fx_vol", **options):
    arguments = {"initiated_by": "guard", "reason": "drift", "finding": FINDING, **options}
    return registry.request_rollback(name, **arguments)


def test_a_request_is_about_what_is_live_and_carries_the_finding(registry):
    entry = ask(registry)
    assert (entry.type, entry.outcome) == (EventType.ROLLBACK_REQUESTED, "done")
    assert str(entry.type) == "rollback.requested"
    assert (entry.from_version, entry.to_version) == ("1.1.0", "1.1.0")
    assert (entry.initiated_by, entry.reason, entry.evidence) == ("guard", "drift", FINDING)
    assert registry.history("fx_vol")[-1] == entry


def test_a_request_moves_nothing(registry):
    before = registry.list(), registry.live_at("fx_vol", T0 + 1)
    manifest = (registry.root / "manifest.json").read_bytes()
    ask(registry)
    assert (registry.list(), registry.live_at("fx_vol", T0 + 1)) == before
    assert (registry.root / "manifest.json").read_bytes() == manifest
    assert (registry.root / "latest" / "fx_vol").resolve().name == "1.1.0"
    assert registry.rollback_target("fx_vol").version == "1.0.0"
    assert EventType.ROLLBACK_REQUESTED not in MOVES


def test_the_audit_export_shows_a_request_and_the_log_verifies(registry, tmp_path):
    entry = ask(registry)
    audit = tmp_path / "desk" / "observability" / "audit" / "model_events.jsonl"
    assert json.loads(audit.read_bytes().splitlines()[-1]) == entry.to_json()
    assert registry.verify_log().ok


def test_a_rebuilt_catalogue_has_the_request_and_the_same_stages(registry):
    entry = ask(registry)
    rows = list(registry._catalogue.dump())
    registry.rebuild()
    assert list(registry._catalogue.dump()) == rows
    assert registry.history("fx_vol")[-1] == entry
    assert registry.current("fx_vol").version == "1.1.0"


def test_an_edited_finding_is_found_in_the_log(registry):
    entry = ask(registry)
    path = registry.root / "log" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"psi":4.0', b'"psi":0.0'))
    report = registry.verify_log()
    assert not report.ok
    assert report.problems[0].line == entry.seq


def test_a_request_about_a_version_that_is_not_live_is_refused(registry):
    before = registry.history("fx_vol")
    assert ask(registry, version="1.1.0").to_version == "1.1.0"
    for version in ("1.0.0", "1.2.0"):
        with pytest.raises(Conflict, match="changed meanwhile"):
            ask(registry, version=version)
    with pytest.raises(NotFound):
        ask(registry, version="9.9.9")
    assert len(registry.history("fx_vol")) == len(before) + 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"reason": " \n"}, ContractViolation),
        ({"initiated_by": "no such/identity"}, ContractViolation),
        ({"finding": {"psi": math.nan}}, ContractViolation),
        ({"name": "other"}, NotFound),
        ({"name": "fx_vol/1.0.0"}, ContractViolation),
    ],
)
def test_a_request_that_says_nothing_usable_leaves_no_trace(registry, options, error):
    head = registry.verify_log().head
    with pytest.raises(error):
        ask(registry, **options)
    assert registry.verify_log().head == head


def test_nothing_in_production_is_nothing_to_withdraw(registry):
    registry.fail("fx_vol", "1.1.0", initiated_by=AUTHOR, reason="gone wrong")
    with pytest.raises(NotFound, match="no version of fx_vol is in production"):
        ask(registry)
