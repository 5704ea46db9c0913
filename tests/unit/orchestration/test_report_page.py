"""The page about a desk: complete, escaped, self-contained, and the same for the same desk."""

import re
import shutil
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from assay import bootstrap
from assay.delivery.approvals import approve
from assay.delivery.promotion import break_glass, promote
from assay.delivery.rollback import rollback
from assay.domain.canonical import content_hash
from assay.domain.evidence import Evidence
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict
from assay.features.parity.comparison import ParityReport
from assay.orchestration.building import ParityProof
from assay.orchestration.report import gather, keep_proof, kept_proof, render_page, write_report
from assay.orchestration.report.gathering import version_to_picture
from assay.orchestration.report.values import GoldSheet
from assay.registry import EventOutcome
from assay.registry.keyring import PURPOSES
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate, pass_gates

AUTHOR, RISK, HEAD, OPERATOR = "author", "risk", "head", "ops"
T0 = 1_790_000_000 * 10**9
SECOND = 10**9
HOSTILE = "<script>alert('x')</script> \"&amp; \u202egnol\x07"


def refuse(registry, name, version):
    evidence = [
        Evidence("loss", 0.5, 100, "mean loss"),
        Evidence(
            "var_coverage",
            4.4e-11,
            3967,
            "p-value of Kupiec's test",
            interval=(0.1, 0.2),
            details={
                "in_words": "on the average day 4.12% went beyond",
                "level": 0.95,
                "x": HOSTILE,
            },
        ),
        Evidence("extra_measure", None, 0, "not asked", details={"undefined": "nobody tried"}),
    ]
    results = [
        GateResult("loss", Severity.SOFT, 0.5, "<= 1", Verdict.PASS, 100, "mean loss", "0.5 is so"),
        GateResult("var_coverage", Severity.HARD, 4.4e-11, ">= 0.05", Verdict.FAIL, 3967,
                   "p-value of Kupiec's test", f"too small {HOSTILE}"),
        GateResult("shadow", Severity.HARD, None, ">= 24", Verdict.INDETERMINATE, 0,
                   "hours in shadow", "no evidence named shadow"),
    ]  # fmt: skip
    registry.record_evidence(name, version, evidence, initiated_by=OPERATOR)
    registry.record_gates(
        name, version, results, Outcome.REFUSED, "digest", initiated_by=OPERATOR,
        policy="strict", switched_off=["nightly_greens"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def keys_at(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


def make_desk(folder, clock):
    people = (AUTHOR, RISK, HEAD, OPERATOR)
    members = [bootstrap.Member(one, tuple(PURPOSES)) for one in people]
    bootstrap.create_desk(folder, name="desk", members=members)
    return bootstrap.open_desk(folder, clock=clock)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return make_desk(tmp_path / "desk", FixedClock(T0))


@pytest.fixture(scope="module")
def told(keys_at, tmp_path_factory):
    """1.0.0 passed and is live; 1.1.0 was refused, forced live for 90 seconds, and withdrawn."""
    clock = FixedClock(T0)
    desk = make_desk(tmp_path_factory.mktemp("told") / "desk", clock)
    registry = desk.registry
    registry.register(make_candidate("fx_vol", "1.0.0", author=AUTHOR), reason="the baseline")
    pass_gates(registry, "fx_vol", "1.0.0")
    for person in (RISK, HEAD):
        approve(registry, "fx_vol", "1.0.0", person, clock=clock)
    promote(registry, "fx_vol", "1.0.0", initiated_by=OPERATOR, clock=clock,
            monotonic=time.monotonic, reason="passed")  # fmt: skip
    clock.advance(3600 * SECOND)
    registry.register(
        make_candidate("fx_vol", "1.1.0", bias=1.0, author=AUTHOR), reason=f"challenger {HOSTILE}"
    )
    refuse(registry, "fx_vol", "1.1.0")
    break_glass(registry, "fx_vol", "1.1.0", initiated_by=OPERATOR, reason=f"drill {HOSTILE}",
                clock=clock, monotonic=time.monotonic)  # fmt: skip
    clock.advance(90 * SECOND)
    rollback(registry, "fx_vol", reason="withdrawn", initiated_by=OPERATOR,
             monotonic=time.monotonic)  # fmt: skip
    registry.register(make_candidate("fx_other", "1.0.0", bias=2.0, author=AUTHOR))
    refuse(registry, "fx_other", "1.0.0")
    return desk


def tree_of(page):
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def text_of(page):
    body = tree_of(page).find("body")
    for parent in list(body.iter()):
        for child in list(parent):
            if child.tag in {"script", "style"}:
                parent.remove(child)
    return re.sub(r"\s+", " ", " ".join(body.itertext()))


class Balance(HTMLParser):
    """Fails on a tag that closes what was not opened last."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "br", "hr", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


def test_every_version_gate_and_measurement_of_the_registry_is_on_the_page(told):
    page = render_page(gather(told))
    text = text_of(page)
    for record in told.registry.list():
        assert f"{record.name} {record.version}" in text
        assert record.digest in page
        for gate in told.registry.gate_record(record.name, record.version).results:
            assert gate.name in text
            assert gate.convention.split("'")[0] in text
        for item in told.registry.evidence(record.name, record.version):
            assert item.name in text


def test_every_entry_of_the_log_is_on_the_page(told):
    tree = tree_of(render_page(gather(told)))
    listed = [int(item.get("value")) for item in tree.iter("li") if item.get("value")]
    entries = [one.seq for name in told.registry.names() for one in told.registry.history(name)]
    assert listed == sorted(entries)


def test_the_page_says_what_is_live_since_when_and_who_approved(told):
    text = text_of(render_page(gather(told)))
    assert "Version 1.0.0 has been live since 21 Sep 2026, 15:14:50 UTC" in text.replace("  ", " ")
    assert "approved by head and risk" in text
    assert "put back by ops when 1.1.0 was withdrawn" in text
    assert "promoted on 21 Sep 2026, 14:13:20 UTC" in text


def test_a_refused_model_has_its_reasons_in_words(told):
    text = text_of(render_page(gather(told)))
    assert "1.1.0 was refused" in text
    assert "on the average day 4.12% went beyond" in text
    assert "shadow could not be decided: no evidence named shadow" in text
    assert "Nothing is in production" in text  # the other model


def test_what_was_forced_past_its_gates_is_told_with_how_long_it_lasted(told):
    text = text_of(render_page(gather(told)))
    assert "It was forced live by ops on 21 Sep 2026, 15:13:20 UTC" in text
    assert "withdrawn 90.0 s later" in text


@pytest.mark.parametrize(("manifest", "warned"), [("m" * 64, False), ("o" * 64, True)])
def test_a_live_model_whose_features_are_built_differently_now_is_marked(told, manifest, warned):
    report = gather(told)
    first = report.models[0]
    live = next(one for one in first.versions if one.record.version == "1.0.0")
    made = replace(
        live.metadata, snapshot_ids={"gold/v": "s" * 64}, manifest_hash=content_hash(["m" * 64])
    )
    versions = tuple(replace(one, metadata=made) if one is live else one for one in first.versions)
    gold = (GoldSheet("v", 5, "s" * 64, "", manifest, None),)
    changed = replace(
        report, gold=gold, models=(replace(first, versions=versions), *report.models[1:])
    )
    said = "gold/v is built by other definitions now" in text_of(render_page(changed))
    assert said is warned


def test_an_attempt_that_was_refused_is_told_as_an_attempt(told):
    report = gather(told)
    entry = report.models[0].events[-1]
    refused = replace(entry, seq=99, outcome=EventOutcome.REFUSED, reason="no approvals")
    first = replace(report.models[0], events=(*report.models[0].events, refused))
    text = text_of(render_page(replace(report, models=(first,))))
    assert "attempt refused:" in text
    assert "no approvals" in text


def test_a_version_made_of_another_ones_run_is_not_compared_with_itself(told):
    newer, older = gather(told).models[0].versions

    def with_runs(*runs):
        return tuple(
            replace(sheet, metadata=replace(sheet.metadata, parent_run=run))
            for sheet, run in zip((newer, older), runs, strict=True)
        )

    assert version_to_picture(with_runs("b", "a")).record.version == "1.1.0"
    assert version_to_picture(with_runs("a", "a")).record.version == "1.0.0"
    assert version_to_picture(()) is None


def test_live_models_come_first(told):
    assert [model.name for model in gather(told).models] == ["fx_vol", "fx_other"]


def test_hostile_text_stays_text(told):
    page = render_page(gather(told))
    assert page.count("<script") == 1
    assert "alert(" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &quot;&amp;amp; " in page
    assert "\u202e" not in page
    assert "\x07" not in page


def test_the_page_asks_nothing_of_the_network(told):
    page = render_page(gather(told))
    for sign in ("http:", "https:", "url(", "@import", " src=", "<link", "<iframe", "fetch("):
        assert sign not in page, sign
    links = re.findall(r'href="([^"]*)"', page)
    assert links
    assert all(link.startswith("#") for link in links)


def test_the_page_is_well_formed_and_its_links_lead_somewhere(told):
    page = render_page(gather(told))
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    tree = tree_of(page)
    names = [item.get("id") for item in tree.iter() if item.get("id")]
    assert len(names) == len(set(names))
    targets = {item.get("href") for item in tree.iter("a")}
    assert {target.removeprefix("#") for target in targets} <= set(names)


def test_every_drawing_has_a_title_and_a_description(told):
    drawings = [one for one in tree_of(render_page(gather(told))).iter("svg") if one.get("role")]
    assert drawings
    for drawing in drawings:
        assert drawing.find("title").text
        assert drawing.find("desc").text


def test_the_same_desk_gives_the_same_page_and_time_changes_only_the_as_of(told):
    first = render_page(gather(told))
    again = bootstrap.open_desk(told.layout.root, clock=FixedClock(told.clock.now()))
    assert render_page(gather(again)) == first
    clock = FixedClock(told.clock.now() + 400 * 86_400 * SECOND)
    later = render_page(gather(bootstrap.open_desk(told.layout.root, clock=clock)))
    assert later != first
    assert later.replace("26 Oct 2027, 15:14:50 UTC", "21 Sep 2026, 15:14:50 UTC") == first


def test_a_desk_with_nothing_in_it_has_a_page_that_says_so(empty):
    text = text_of(render_page(gather(empty)))
    for said in ("No model has been registered", "The log is empty", "Nothing has been ingested"):
        assert said in text


def test_a_changed_file_is_the_first_thing_on_the_page(told, tmp_path):
    shutil.copytree(told.layout.root, tmp_path / "copy", symlinks=True)
    desk = bootstrap.open_desk(tmp_path / "copy", clock=FixedClock(told.clock.now()))
    path = desk.layout.registry / "artifacts" / "fx_vol" / "1.1.0" / "model.onnx"
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.write_bytes(b"other")
    report = gather(desk)
    assert any("model.onnx" in problem for problem in report.problems)
    text = text_of(render_page(report))
    assert re.search(r"Verification\s+✗ \d problems", text)
    assert "Does not verify: model.onnx" in text


def test_a_missing_training_run_is_said_in_the_place_of_its_plots(told):
    assert "it names no training run" in text_of(render_page(gather(told)))


def test_the_page_is_written_into_the_desk_and_is_small(told):
    path = write_report(told)
    assert path == told.layout.root / "reports" / "report.html"
    assert path.stat().st_size < 200_000


def proof_of(snapshot, equal):
    report = ParityReport(
        values_compared=10, bitwise_equal=equal, largest_ulp=10 - equal, largest_abs=0.0, missing=0,
        extra=0, features=(), differences=(),
    )  # fmt: skip
    return ParityProof(view="fx_daily", manifest="m" * 64, snapshot=snapshot, offline_values=10,
                       online_values=10, report=report, seconds=1.0)  # fmt: skip


def test_a_parity_proof_is_kept_for_its_snapshot_and_for_no_other(empty):
    assert kept_proof(empty, "fx_daily", "a") is None
    keep_proof(empty, proof_of("a", 10))
    assert kept_proof(empty, "fx_daily", "a")["report"]["holds"]
    assert kept_proof(empty, "fx_daily", "b") is None
    keep_proof(empty, proof_of("b", 10))
    assert kept_proof(empty, "fx_daily", "a") is None


@pytest.mark.parametrize(
    ("equal", "said"), [(10, "✓ 10 values, all equal"), (9, "✗ 10 values, NOT equal")]
)
def test_the_page_shows_parity_as_it_was_proven(empty, equal, said):
    keep_proof(empty, proof_of("a", equal))
    gold = GoldSheet("fx_daily", 5, "a", "s", "m" * 64, kept_proof(empty, "fx_daily", "a"))
    text = text_of(render_page(replace(gather(empty), gold=(gold,))))
    assert said in text
    unproven = replace(gold, proof=None)
    assert "not proven" in text_of(render_page(replace(gather(empty), gold=(unproven,))))
