"""The paired log is read as far as it can be, and compared with numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from assay.delivery.outcomes import OutcomeMeans, differences, mean_differences
from assay.delivery.pair_history import PairHistory
from assay.delivery.paired import compare, shadow_evidence
from assay.delivery.scorecard import rests_on, rows_of_days, which_is_better
from assay.domain.instants import NANOS_PER_SECOND
from assay.serving.challengers.pair_log import PairReader
from assay.serving.challengers.pairs import Pair, Turn
from assay.serving.challengers.summaries import DaySummary

HOUR = 3_600 * NANOS_PER_SECOND


def pair(n: int, old: float | None, new: float | None, **more) -> Pair:
    said = {"recorded": n * HOUR, "at": n * HOUR, "instrument": f"E{n % 2}", **more}
    return Pair(
        model="m", champion="1.0.0", champion_digest="old", challenger="2.0.0",
        challenger_digest="new", revision=7, prediction=old, shadow=new, served="champion",
        champion_ms=1.0, shadow_ms=0.5, turn=n, error=None if new is not None else "broken",
        **said,
    )  # fmt: skip


def line(one: Pair) -> bytes:
    """A turn of one row."""
    said = msgspec.structs.asdict(one)
    for name in ("champion_ms", "shadow_ms"):
        said[name.replace("_ms", "_ns")] = round(said.pop(name) * 1e6)
    for name in ("prediction", "shadow"):
        said[name] = [said[name]]
    return msgspec.json.encode(Turn(**said))


def found(pairs):
    return compare(pairs, model="m", champion="1.0.0", challenger="2.0.0")


def test_the_numbers_are_those_of_the_pairs():
    made = [pair(n, float(n), float(10 - n if n == 3 else n)) for n in range(6)]
    said = found(made)
    ranks = np.argsort(np.argsort([0, 1, 2, 7, 4, 5]))
    assert said.live.rank_correlation == pytest.approx(np.corrcoef(np.arange(6), ranks)[0, 1])
    assert (said.rows, said.pairs, said.errors, said.dropped) == (6, 6, {}, 0)
    first, second = said.entities
    assert (first.entity, first.mean_difference) == ("E1", pytest.approx(4 / 3))
    assert first.spreads == pytest.approx(4 / 3 / np.arange(6).std())
    assert (second.entity, second.mean_difference, second.opposite) == ("E0", 0.0, 0.0)
    assert said.latency_ms["challenger"] == {"p50": 0.5, "p95": 0.5, "p99": 0.5}
    assert said.stable_hours == 5.0
    assert not said.replayed


def test_hours_count_from_the_last_incident_and_the_last_gap():
    made = [pair(n, 1.0 * n, 2.0 * n) for n in range(10)]
    made[6] = pair(6, 6.0, None)
    assert found(made).stable_hours == 3.0
    assert "broken" in found(made).incident
    assert found([*made, pair(100, 1.0, 1.0), pair(102, 2.0, 2.0)]).stable_hours == 2.0
    assert found([]).stable_hours is None


def test_evidence_without_pairs_has_no_value_and_a_replay_is_marked():
    code = {"assay": "0"}
    more = {"measured_at": 1, "model_digest": "new", "champion_digest": "old", "manifest": None}
    hours, ranks = shadow_evidence(found([]), code=code, **more)
    assert (hours.name, hours.value, hours.sample_size) == ("shadow_stable_hours", None, 0)
    assert (ranks.name, ranks.value) == ("shadow_rank_correlation", None)
    late = [pair(n, float(n), float(n), at=0) for n in range(3, 6)]
    hours, ranks = shadow_evidence(found(late), code=code, **more)
    assert hours.provenance is not None
    assert hours.provenance.replayed
    assert hours.provenance.convention_id == "shadow_stable_hours/1"
    assert (hours.value, ranks.value) == (2.0, 1.0)


def test_a_reader_goes_on_where_it_was_and_leaves_out_what_is_no_line(tmp_path):
    path = tmp_path / "pairs.jsonl"
    reader = PairReader(path)
    assert list(reader.read()) == []
    one, two, three = (line(pair(n, 1.0, 2.0)) for n in range(3))
    path.write_bytes(one + b"\n" + two[:20])
    assert [got.turn for got in reader.read()] == [0]
    path.write_bytes(one + b"\n" + two + b"\nnot json\n" + three + b"\n")
    assert [got.turn for got in reader.read()] == [1, 2]
    assert reader.unreadable == 1
    assert list(reader.read()) == []
    path.unlink()
    path.write_bytes(three + b"\n")
    assert [got.turn for got in reader.read()] == [2]


def test_pairs_of_other_digests_are_left_out(tmp_path):
    path = tmp_path / "pairs.jsonl"
    made = [pair(0, 1.0, 1.0), msgspec.structs.replace(pair(1, 1.0, 1.0), champion_digest="x"),
            msgspec.structs.replace(pair(2, 1.0, 1.0), challenger_digest="x"),
            msgspec.structs.replace(pair(3, 1.0, 1.0), model="other")]  # fmt: skip
    path.write_bytes(b"".join(line(one) + b"\n" for one in made))

    def turns(**asked):
        history = PairHistory(path, model="m", challenger="new", **asked)
        return [one.turn for one in history.pairs()]

    assert turns(champion="old") == [0]
    assert turns() == [0, 1]
    assert turns(since=HOUR // 2) == [1]
    assert turns(revision=8) == []


def ranks(values):
    return [sum(other < one for other in values) for one in values]


def correlation(a, b):
    a, b = np.array(ranks(a), float), np.array(ranks(b), float)
    return float(np.corrcoef(a, b)[0, 1])


def test_which_is_better_is_told_by_outcomes_and_by_nothing_else():
    generator = np.random.default_rng(4)
    day, made, realised, expected = 24 * HOUR, [], {}, []
    for date in range(4):
        old, new, outcome = generator.standard_normal((3, 6)).tolist()
        for n in range(6):
            made.append(pair(0, old[n], new[n], at=date * day, instrument=f"E{n}"))
            realised[f"E{n}", date * day] = outcome[n]
        expected.append(correlation(new, outcome) - correlation(old, outcome))
    daily = differences(made, realised, centre=0.0)
    said = mean_differences(daily, pnl=False)
    assert said is not None
    assert (said.dates, said.pnl, said.pnl_error) == (4, None, None)
    assert said.ic == pytest.approx(sum(expected) / 4)
    assert said.ic_error == pytest.approx(np.std(expected, ddof=1) / 2)
    assert mean_differences(daily, pnl=True).pnl == pytest.approx(daily.pnl.mean())
    assert mean_differences(differences(made, {}, centre=0.0), pnl=True) is None
    without = found(made)
    assert "nothing about which is better" in which_is_better(without)
    clear = OutcomeMeans(40, 0.05, 0.01, None, None)
    told = which_is_better(replace(without, outcomes=clear))
    assert "40 dates" in told
    assert "IC +0.05, standard error 0.01. " in told
    told = which_is_better(replace(without, outcomes=replace(clear, ic=-0.015)))
    assert "within two of them of no difference" in told


def test_a_scorecard_names_the_days_of_which_only_sums_are_left():
    later = [pair(n, 1.0 * n, 2.0 * n) for n in range(30, 52)]
    day = DaySummary(
        "m", "1.0.0", "old", "2.0.0", "new", 7, "1970-01-01", HOUR, 23 * HOUR, 100, 90, 0, 45.0,
        {"broken": 10}, 2 * HOUR, "broken", 4,
    )  # fmt: skip
    more = msgspec.structs.replace(day, first=24 * HOUR, last=29 * HOUR, rows=2, pairs=2,
                                   errors={}, failed=None, dropped=0, difference=30.0)  # fmt: skip
    said = compare(
        later, model="m", champion="1.0.0", challenger="2.0.0", removed=lambda: [day, more]
    )
    assert rows_of_days(said) == [
        ("1970-01-03", "4", "4", "0", "0", "49.5", "pairs"),
        ("1970-01-02", "20", "20", "0", "0", "36.15", "sums, 90% as pairs"),
        ("1970-01-01", "100", "90", "10", "4", "0.5", "sums only"),
    ]
    assert "all 124 rows" in rests_on(said)
    assert "the 22 pairs kept since 1970-01-02T06:00:00Z" in rests_on(said)
    assert said.stable_hours == 49.0
    assert "1970-01-01T02:00:00Z: broken" in said.incident
    assert rests_on(found(later)) == "Every figure is of all pairs since it began."
