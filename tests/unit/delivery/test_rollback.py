import json
import shutil
import time

import pytest

from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.errors import Conflict, ContractViolation, NotFound, Refused, Tampered
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    make_candidate,
    make_keys,
    make_registry,
)

T0 = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """1.0.0, 1.1.0 and 1.2.0 were in production in turn; 1.3.0 is staged."""
    folder = tmp_path_factory.mktemp("registry")
    made = make_registry(folder, FixedClock(T0))
    for index, version in enumerate(["1.0.0", "1.1.0", "1.2.0", "1.3.0"]):
        made.register(make_candidate(version=version, weights=(index, 1)))
    for version in ["1.0.0", "1.1.0", "1.2.0"]:
        break_glass(
            made, "fx_vol", version, initiated_by=AUTHOR, reason="test", clock=made.clock,
            monotonic=time.monotonic,
        )  # fmt: skip
    return folder


@pytest.fixture
def registry(template, tmp_path):
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    return make_registry(tmp_path, FixedClock(T0))


def back(registry, target=None, **options):
    arguments = {"reason": "drift", "initiated_by": AUTHOR, **options}
    return rollback(registry, "fx_vol", target, monotonic=time.monotonic, **arguments)


def stages(registry):
    return [str(item.stage) for item in registry.list("fx_vol")]


def test_the_version_before_comes_back_and_the_withdrawn_one_is_failed(registry):
    done = back(registry)
    assert (done.from_version, done.to_version, done.withdrawn_as) == ("1.2.0", "1.1.0", "failed")
    assert stages(registry) == ["archived", "production", "failed", "staged"]
    assert registry.open_production("fx_vol").version == "1.1.0"
    entry = registry.history("fx_vol")[-1]
    assert (entry.seq, entry.type, entry.reason) == (done.seq, "rollback", "drift")
    assert (entry.from_version, entry.to_version) == ("1.2.0", "1.1.0")
    assert json.loads(json.dumps(done.to_json()))["withdrawn_as"] == "failed"
    assert registry.verify_log().ok


def test_keep_archives_the_withdrawn_version(registry):
    assert back(registry, keep=True).withdrawn_as == "archived"
    assert stages(registry) == ["archived", "production", "archived", "staged"]


def test_rolling_back_again_goes_further_back(registry):
    back(registry)
    assert back(registry).to_version == "1.0.0"
    with pytest.raises(NotFound, match="no earlier version of fx_vol"):
        back(registry)
    assert registry.current("fx_vol").version == "1.0.0"


def test_a_named_target_is_taken(registry):
    assert back(registry, "1.0.0").to_version == "1.0.0"
    assert stages(registry) == ["production", "archived", "failed", "staged"]


@pytest.mark.parametrize(("target", "stage"), [("1.3.0", "staged"), ("1.2.0", "production")])
def test_only_an_archived_version_can_come_back(registry, target, stage):
    with pytest.raises(Refused, match=f"is {stage}, expected archived"):
        back(registry, target)
    assert registry.current("fx_vol").version == "1.2.0"
    assert registry.history("fx_vol")[-1].outcome == "refused"


def test_a_failed_version_never_comes_back(registry):
    back(registry)
    with pytest.raises(Refused, match="is failed"):
        back(registry, "1.2.0")


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_rollback_needs_a_reason(registry, reason):
    with pytest.raises(ContractViolation, match="needs a reason"):
        back(registry, reason=reason)


def test_a_dry_run_checks_everything_and_changes_nothing(registry):
    before = {path: path.read_bytes() for path in registry.root.rglob("*.json*") if path.is_file()}
    done = back(registry, dry_run=True)
    assert (done.to_version, done.seq, done.dry_run) == ("1.1.0", None, True)
    assert stages(registry) == ["archived", "archived", "production", "staged"]
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(Refused):
        back(registry, "1.3.0", dry_run=True)
    assert {path: path.read_bytes() for path in before} == before


def test_a_broken_target_is_refused_before_anything_changes(registry):
    path = registry.root / "artifacts" / "fx_vol" / "1.1.0" / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Tampered, match=r"model\.onnx"):
        back(registry)
    assert registry.current("fx_vol").version == "1.2.0"
    assert back(registry, "1.0.0").to_version == "1.0.0"


def test_a_rollback_does_not_withdraw_a_champion_that_nobody_looked_at(registry):
    with pytest.raises(Conflict, match="changed meanwhile"):
        registry.rollback("fx_vol", "1.0.0", withdraw="1.1.0", initiated_by=AUTHOR, reason="drift")


def test_a_rollback_restores_when_nothing_is_in_production(registry):
    registry.fail("fx_vol", "1.2.0", initiated_by=AUTHOR, reason="gone wrong")
    done = back(registry)
    assert (done.from_version, done.to_version, done.withdrawn_as) == (None, "1.1.0", None)
    assert registry.current("fx_vol").version == "1.1.0"


def test_someone_without_a_key_can_roll_back_at_night(registry):
    back(registry, initiated_by="night.shift")
    report = registry.verify_log()
    assert report.ok
    assert report.signed_up_to < report.entries  # the next signed head covers it


def test_a_key_that_others_can_read_does_not_stop_a_rollback(registry, tmp_path):
    make_keys(tmp_path)
    (tmp_path / "private" / f"{FIRST_APPROVER}.pem").chmod(0o644)
    assert back(registry, initiated_by=FIRST_APPROVER).to_version == "1.1.0"


def test_a_model_that_was_never_promoted_has_nothing_to_go_back_to(registry):
    registry.register(make_candidate("other"))
    with pytest.raises(NotFound, match="no earlier version of other"):
        rollback(registry, "other", reason="x", initiated_by=AUTHOR, monotonic=time.monotonic)
