"""Paper trading of a desk's version: replayed, live from the service's log, repeated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from assay.bootstrap import open_desk
from assay.cli.app import app
from assay.delivery.gates import evaluate
from assay.delivery.policy_files import parse_policy
from assay.domain.evidence import Evidence
from assay.domain.instants import parse, render
from assay.domain.verdicts import GateResult, Verdict
from assay.errors import ConfigurationError, Conflict, ContractViolation, NotFound, Tampered
from assay.orchestration.judging import judge_version
from assay.orchestration.modelling import price_table, register_run, sealed_run, train_recipe
from assay.orchestration.paper import (
    PaperAssumptions,
    paper_journal,
    paper_record,
    record_paper,
    run_paper,
)
from assay.portfolio import Decisions, PriceHistory, read_journal, simulate_history, verify
from assay.testing.clocks import FixedClock

NOW = parse("2024-06-01T12:00Z")
NAME, VERSION = "fx_direction", "1.0.0"
HOURS = "paper_trading_hours"
DAY = 86_400 * 10**9
ROOT = Path(__file__).parents[3]


class Silent:
    def event(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def directed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The desk with a direction model of a few small trees, registered."""
    folder = tmp_path_factory.mktemp("directed") / "desk"
    shutil.copytree(trained, folder, symlinks=True)
    text = (ROOT / "examples/fx/models/fx_direction.py").read_text()
    text = text.replace("rounds=80", "rounds=8").replace("folds=4", "folds=2")
    text = text.replace("learning_rate=0.06", "learning_rate=0.06, min_child_weight=5.0")
    text = text.replace("    seeds=(1, 2),\n", "    robustness=CombinatorialPurged(3, 2),\n")
    text = text.replace("import Boosting,", "import Boosting, CombinatorialPurged,")
    (folder / "models/fx_direction.py").write_text(text)
    desk = open_desk(folder, clock=FixedClock(NOW))
    register_run(desk, train_recipe(desk, NAME, Silent()), author="quant")
    return folder


@pytest.fixture
def desk_folder(directed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    shutil.copytree(directed, folder, symlinks=True)
    return folder


def opened(folder: Path) -> Any:
    return open_desk(folder, clock=FixedClock(NOW))


def marks_of(journal: Path) -> list[dict[str, Any]]:
    return [line for line in read_journal(journal) if line["kind"] == "mark"]


def test_a_replay_has_the_bits_of_the_backtest_over_the_same_record(desk_folder: Path) -> None:
    desk = opened(desk_folder)
    done = run_paper(desk, NAME, VERSION, Silent(), predictions=None)
    terms = done.record.terms
    assert terms.replayed
    run = sealed_run(desk, desk.registry.metadata(NAME, VERSION))
    table = price_table(desk, "fx_daily").frame
    names = [one.name for one in terms.instruments]
    wide = table.pivot(on="instrument", index="event_time", values="mid").sort("event_time")
    made = run.predictions().pivot(on="instrument", index="as_of", values="prediction")
    made = made.sort("as_of")
    scores = made.select(
        *(pl.col(n) if n in made.columns else pl.lit(None, pl.Float64).alias(n) for n in names)
    )
    times, known = wide["event_time"].to_numpy(), made["as_of"].to_numpy()
    start = np.searchsorted(times, known[0], side="right") - 1
    prices = wide.select(names).to_numpy()[start:]
    by_name = dict(zip(names, prices.T, strict=True))
    rates = np.column_stack([1.0 / by_name[f"USD_{currency}"] for currency in terms.currencies])
    closed = known < times[-1]
    track = simulate_history(
        PriceHistory(times[start:], terms.instruments, prices, None, terms.currencies, rates),
        Decisions(known[closed], scores.to_numpy()[closed]),
        terms.terms,
        starting_equity=1e6,
    )
    marks = marks_of(done.journal)
    assert len(marks) > 100
    equity = [float.fromhex(mark["equity_exact"]) for mark in marks]
    assert equity == track.equity[0].tolist()
    assert sum(mark["turnover"] > 0 for mark in marks) > 80
    assert verify(done.journal) == []


def test_a_second_run_takes_nothing_and_an_account_keeps_its_assumptions(desk_folder: Path) -> None:
    desk = opened(desk_folder)
    first = run_paper(desk, NAME, VERSION, Silent(), predictions=None)
    before = first.journal.read_bytes()
    again = run_paper(desk, NAME, VERSION, Silent(), predictions=None)
    assert (again.decisions, again.prices, again.late) == (0, 0, 0)
    assert again.journal.read_bytes() == before
    with pytest.raises(Conflict, match="other terms"):
        run_paper(
            desk, NAME, VERSION, Silent(), predictions=None,
            assumptions=PaperAssumptions(currency="EUR"),
        )  # fmt: skip


def log_of(folder: Path, sessions: int, *, skip: int = 0) -> Path:
    """A log as the service writes it: after each of the last sessions, for each instrument."""
    desk = opened(folder)
    table = price_table(desk, "fx_daily").frame
    moments = table["event_time"].unique().sort().to_list()[-sessions:]
    names = sorted(table["instrument"].unique().to_list())[:8]
    generator = np.random.default_rng(0)
    lines = []
    for at in moments[skip:]:
        for number, name in enumerate(names):
            line = {
                "timestamp": render(at + 3 * 3_600 * 10**9 + number),
                "model": NAME,
                "version": f"v{VERSION}",
                "instrument": name,
                "prediction": 0.5 + 0.1 * float(generator.standard_normal()),
            }
            lines.append(json.dumps(line))
        lines.append(json.dumps({**line, "model": "another", "prediction": 9.0}))
    path = folder / "artifacts/predictions.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + '\n{"torn": ')
    return path


def test_live_predictions_trade_at_the_price_after_them(desk_folder: Path) -> None:
    log = log_of(desk_folder, 10)
    desk = opened(desk_folder)
    done = run_paper(desk, NAME, VERSION, Silent(), predictions=log)
    # Those after the last price wait for the next one.
    assert (done.decisions, done.prices, done.record.traded) == (9, 10, 9)
    assert not done.record.terms.replayed
    lines = read_journal(done.journal)
    decisions = [line for line in lines if line["kind"] == "decision"]
    assert all(len(line["scores"]) == 8 for line in decisions)
    traded = {m["decision"]: m["at"] for m in marks_of(done.journal) if m["decision"]}
    for line in decisions:
        assert line["known"] < traded[line["id"]]
        earlier = [m["at"] for m in marks_of(done.journal) if m["at"] < traded[line["id"]]]
        assert max(earlier) < line["known"]
    hours, profit = done.evidence
    assert hours.details["replayed"] is profit.details["replayed"] is False
    assert hours.value > 24


def test_a_decision_that_comes_after_its_price_is_an_incident(desk_folder: Path) -> None:
    desk = opened(desk_folder)
    whole = log_of(desk_folder, 10).read_text().splitlines()
    log = desk_folder / "artifacts/predictions.jsonl"
    log.write_text("\n".join(whole[18:]) + "\n")
    assert run_paper(desk, NAME, VERSION, Silent(), predictions=log).late == 0
    log.write_text("\n".join(whole) + "\n")
    late = run_paper(desk, NAME, VERSION, Silent(), predictions=log)
    assert late.late == 2
    assert run_paper(desk, NAME, VERSION, Silent(), predictions=log).late == 0
    assert len(late.record.incidents) == 2


def test_what_is_on_paper_becomes_evidence_of_the_version(desk_folder: Path) -> None:
    desk = opened(desk_folder)
    done = run_paper(desk, NAME, VERSION, Silent(), predictions=log_of(desk_folder, 10))
    record_paper(desk, done, initiated_by="quant")
    recorded = {one.name: one for one in desk.registry.evidence(NAME, VERSION)}
    assert recorded["paper_trading_hours"].value == done.record.hours
    assert recorded["paper_pnl_after_costs"].value == done.record.profit
    hours = recorded["paper_trading_hours"]
    assert hours.provenance is not None
    assert hours.provenance.model_digest == desk.registry.get(NAME, VERSION).digest
    assert hours.provenance.measured_at == marks_of(done.journal)[-1]["at"] <= NOW
    fresh, stale = (hours.provenance.measured_at + days * DAY for days in (7, 8))
    assert hours_gate(hours, now=fresh, expires_days=7).verdict is Verdict.PASS
    assert hours_gate(hours, now=stale, expires_days=7).verdict is Verdict.INDETERMINATE


def hours_gate(hours: Evidence, **more: Any) -> GateResult:
    now = more.pop("now", None)
    rule = {"rule": ">=", "threshold": 24, "severity": "hard", **more}
    gates = parse_policy({"policies": {"p": {"gates": {HOURS: rule}}}}, source="s")
    return evaluate(gates, "p", [hours], now=now).results[0]


def test_replayed_hours_count_only_where_the_policy_says_so(desk_folder: Path) -> None:
    desk = opened(desk_folder)
    done = run_paper(desk, NAME, VERSION, Silent(), predictions=None)
    record_paper(desk, done, initiated_by="quant")
    (hours,) = (one for one in desk.registry.evidence(NAME, VERSION) if one.name == HOURS)
    assert hours.value is not None
    assert hours.value > 24
    refused = hours_gate(hours)
    assert refused.verdict is Verdict.INDETERMINATE
    assert "on a replay" in refused.reason
    assert hours_gate(hours, replayed="allow").verdict is Verdict.PASS


def test_an_account_that_was_changed_by_hand_or_is_anothers_is_no_evidence(
    desk_folder: Path,
) -> None:
    desk = opened(desk_folder)
    done = run_paper(desk, NAME, VERSION, Silent(), predictions=log_of(desk_folder, 10))
    other = replace(done.record.terms, subject={**done.record.terms.subject, "digest": "0" * 64})
    with pytest.raises(ContractViolation, match="measured on the version with digest 000000000000"):
        record_paper(
            desk, replace(done, record=replace(done.record, terms=other)), initiated_by="quant"
        )
    text = done.journal.read_text()
    profit = next(mark["profit"] for mark in marks_of(done.journal) if mark["profit"])
    done.journal.write_text(text.replace(f'"profit":{profit!r}', '"profit":1e9', 1))
    assert done.journal.read_text() != text
    with pytest.raises(Tampered, match="not as it was written"):
        record_paper(desk, done, initiated_by="quant")
    assert HOURS not in {one.name for one in desk.registry.evidence(NAME, VERSION)}


def test_the_paths_of_a_robust_recipe_become_evidence_when_it_is_judged(desk_folder: Path) -> None:
    desk = opened(desk_folder)
    judged = judge_version(desk, NAME, VERSION, initiated_by="quant", progress=Silent())
    found = {one.name: one for one in judged.evidence}
    run = sealed_run(desk, desk.registry.metadata(NAME, VERSION))
    paths = run.paths()
    assert paths is not None
    assert paths["path"].n_unique() == 2
    assert len(found["path_rank_ic"].details["paths"]) == 2
    assert found["path_rank_ic"].value is not None
    assert found["path_sharpe"].sample_size > 300
    assert "paths.parquet" in run.record["files"]
    controls = found["sharpe_after_costs"].details
    if found["sharpe_after_costs"].value is not None:
        assert 0 < controls["random_signals"]["p_value"] <= 1


def test_models_without_scores_and_versions_without_predictions_are_refused(
    desk_folder: Path,
) -> None:
    desk = opened(desk_folder)
    with pytest.raises(ConfigurationError, match="only scores of returns"):
        run_paper(desk, "fx_vol", VERSION, Silent(), predictions=None)
    with pytest.raises(NotFound, match=r"no prediction of fx_direction 1\.0\.0"):
        run_paper(desk, NAME, VERSION, Silent(), predictions=desk_folder / "none.jsonl")
    with pytest.raises(NotFound, match="has no paper account"):
        paper_record(desk, NAME, VERSION, replay=False)
    assert not paper_journal(desk, NAME, VERSION, replay=False).exists()


def test_the_commands_run_show_and_verify(desk_folder: Path) -> None:
    shell = CliRunner()
    place = ("--desk", str(desk_folder))
    log_of(desk_folder, 10)
    ran = shell.invoke(app, ["paper", "run", NAME, VERSION, "--json", *place])
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert document["decisions"] == 9
    shown = shell.invoke(app, ["paper", "show", NAME, VERSION, "--verify", *place])
    assert shown.exit_code == 0, shown.output
    assert "computed again with the same bits" in shown.output
    assert "hours without an incident" in shown.output
    journal = Path(document["journal"])
    text = journal.read_text()
    journal.write_text(text.replace('"turnover":0.', '"turnover":9.', 1))
    bad = shell.invoke(app, ["paper", "show", NAME, VERSION, "--verify", *place])
    assert bad.exit_code == 1
    assert "NOT AS WRITTEN" in bad.output
