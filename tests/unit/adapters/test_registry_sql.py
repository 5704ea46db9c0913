"""SQL over a registry answers what the registry does, changes nothing and reaches nothing else."""

import json
import math
import os
import signal
import subprocess
import sys
import threading

import pytest

from assay.delivery.approvals import approve
from assay.delivery.promotion import break_glass, promote
from assay.domain.evidence import Evidence
from assay.domain.instants import render
from assay.errors import ConfigurationError, Refused
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    make_candidate,
    make_registry,
    pass_gates,
)

pytest.importorskip("duckdb", reason="pip install 'assay[sql]'")

from assay.adapters.duckdb import TABLES, query_registry

T0 = 1_700_000_000_123_456_789
SECOND = 10**9


@pytest.fixture(scope="module", params=["file", "postgres"])
def registry(request, tmp_path_factory):
    if request.param == "file":
        yield request.getfixturevalue("filed")
        return
    server = request.getfixturevalue("postgres")
    from assay.adapters.postgres import PostgresLedger

    ledger = PostgresLedger(server.url("asked_in_sql"))
    yield make(tmp_path_factory.mktemp("asked"), ledger)
    ledger.close()


@pytest.fixture(scope="module")
def filed(tmp_path_factory):
    """The registry of files alone: what a statement may do has nothing to do with the ledger."""
    return make(tmp_path_factory.mktemp("asked"), None)


def make(folder, ledger):
    clock = FixedClock(T0)
    made = make_registry(folder, clock, ledger=ledger)
    for number in (0, 9, 10):
        made.register(make_candidate(version=f"1.{number}.0", weights=(number, 1)))
        clock.advance(SECOND)
    sharpe = [Evidence("sharpe", value, 250, "annual", (0.1, 2.0)) for value in (0.5, 1.5)]
    for item in sharpe:
        made.record_evidence("fx_vol", "1.9.0", [item], initiated_by=AUTHOR)
    made.record_evidence(
        "fx_vol", "1.9.0", [Evidence("odd name", math.nan, 0, "none")], initiated_by=AUTHOR
    )
    clock.advance(SECOND)
    pass_gates(made, "fx_vol", "1.0.0")
    for person in (FIRST_APPROVER, SECOND_APPROVER):
        approve(made, "fx_vol", "1.0.0", person, clock=clock)
    promote(made, "fx_vol", "1.0.0", initiated_by=AUTHOR, clock=clock, monotonic=lambda: 0.0)
    clock.advance(SECOND)
    break_glass(
        made, "fx_vol", "1.10.0", initiated_by=AUTHOR, reason='a "quote", λ', clock=clock,
        monotonic=lambda: 0.0,
    )  # fmt: skip
    return made


def ask(registry, statement):
    return list(query_registry(registry, statement).rows)


def test_versions_are_those_of_the_registry(registry):
    columns = "model, version, stage, kind, author, digest, registered_at, stage_since"
    found = ask(registry, f"select {columns} from versions order by major, minor, patch")
    assert found == [
        (
            one.name, one.version, str(one.stage), one.kind, one.author, one.digest,
            render(one.registered_at), render(one.stage_at),
        )
        for one in registry.list()
    ]  # fmt: skip


def test_metrics_are_the_latest_values_as_rows_and_as_fields(registry):
    rows = ask(
        registry, "select name, value, lower, upper, recorded_by from metrics order by 1, version"
    )
    assert rows == [
        ("loss", 0.5, None, None, AUTHOR),
        ("odd name", None, None, None, AUTHOR),
        ("sharpe", 1.5, 0.1, 2.0, AUTHOR),
    ]
    wide = ask(
        registry, "select version, metrics.sharpe, metrics.loss from versions order by minor"
    )
    assert wide == [("1.0.0", None, 0.5), ("1.9.0", 1.5, None), ("1.10.0", None, None)]
    best = "select v.version from versions v where metrics.sharpe > 1"
    assert ask(registry, best) == [("1.9.0",)]


def test_gates_approvals_and_events_are_those_of_the_log(registry):
    (gate,) = ask(registry, "select version, gate, verdict, outcome, seq from gates")
    report = registry.gate_record("fx_vol", "1.0.0")
    assert gate[:4] == ("1.0.0", report.results[0].name, "PASS", "PROMOTABLE")
    approvals = ask(registry, "select approver, signed from approvals order by seq")
    assert approvals == [(FIRST_APPROVER, True), (SECOND_APPROVER, True)]
    rows = ask(
        registry,
        "select seq, recorded_at, type, from_version, to_version, outcome, reason, evidence, hash"
        " from events order by seq",
    )
    assert [(*row[:7], json.loads(row[7]), row[8]) for row in rows] == [
        (
            one.seq, render(one.at), str(one.type), one.from_version, one.to_version,
            str(one.outcome), one.reason, dict(one.evidence), one.hash,
        )
        for one in registry.history("fx_vol")
    ]  # fmt: skip


def test_what_was_live_at_a_moment_is_one_query(registry):
    assert ask(registry, "select version, since, until from live order by since") == [
        ("1.0.0", render(T0 + 4 * SECOND), render(T0 + 5 * SECOND)),
        ("1.10.0", render(T0 + 5 * SECOND), None),
    ]
    for second, version in ((3, None), (4, "1.0.0"), (5, "1.10.0"), (6, "1.10.0")):
        moment = render(T0 + second * SECOND).removesuffix("Z")
        found = ask(
            registry,
            f"select version from live where since <= TIMESTAMP_NS '{moment}'"
            f" and (until > TIMESTAMP_NS '{moment}' or until is null)",
        )
        assert [row[0] for row in found] == ([version] if version else [])
        live = registry.live_at("fx_vol", T0 + second * SECOND).version
        assert (live and live.version) == version


def test_stages_say_when_each_version_came_into_each(registry):
    assert ask(registry, "select version, stage from stages order by seq, stage") == [
        ("1.0.0", "staged"),
        ("1.9.0", "staged"),
        ("1.10.0", "staged"),
        ("1.0.0", "production"),
        ("1.0.0", "archived"),
        ("1.10.0", "production"),
    ]


def test_every_table_has_the_columns_that_it_names(registry):
    for table, columns in TABLES.items():
        found = query_registry(registry, f"select * from {table}").columns
        assert found[: len(columns)] == tuple(columns)


def test_a_registry_without_versions_answers_too(tmp_path):
    empty = make_registry(tmp_path, FixedClock(T0))
    for table in TABLES:
        assert query_registry(empty, f"select * from {table}").rows == ()


@pytest.mark.parametrize(
    "statement",
    [
        "select recorded_at from events -- a remark",
        "with a as (select 1 as x) select x from a;",
        "from versions",
        "show tables",
        "describe versions",
        "summarize versions",
        "explain select 1",
        "select 1 as a, 2 as a, now()",
    ],
)
def test_whatever_only_reads_is_answered(filed, statement):
    answer = query_registry(filed, statement)
    assert answer.rows
    json.dumps(answer.to_json(), allow_nan=False)
    assert all(len(row) == len(answer.columns) for row in answer.to_json())


def test_what_is_nested_or_no_float_is_written_as_json_has_it(filed):
    answer = query_registry(
        filed,
        "select metrics, 1.5 as half, [1, 2] as both, 'nan'::double as none,"
        " date '2026-01-15' as day"
        " from versions where version = '1.9.0'",
    )
    metrics = {"loss": None, "odd name": None, "sharpe": 1.5}
    (document,) = answer.to_json()
    assert document == {
        "metrics": metrics, "half": 1.5, "both": [1, 2], "none": None, "day": "2026-01-15"
    }  # fmt: skip
    (cells,) = answer.cells()
    assert (json.loads(cells[0]), json.loads(cells[2])) == (metrics, [1, 2])


@pytest.mark.parametrize(
    "statement",
    [
        "insert into versions select * from versions",
        "update versions set stage = 'production'",
        "delete from versions",
        "drop table versions",
        "create table mine (a int)",
        "create temp table mine (a int)",
        "create or replace macro m() as 1",
        "attach '/tmp/other.db'",
        "copy versions to '/tmp/versions.csv'",
        "export database '/tmp/everything'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "pragma enable_profiling",
        "call pragma_version()",
        "use memory",
        "vacuum",
        "begin",
        "prepare p as select 1",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from read_blob('/etc/passwd')",
        "select * from read_json('/etc/passwd')",
        "select * from read_parquet('https://example.com/a.parquet')",
        "select * from glob('/etc/*')",
        "select * from sniff_csv('/etc/passwd')",
        "select * from parquet_metadata('/etc/passwd')",
    ],
)
def test_whatever_does_more_is_refused(filed, statement):
    before = list(filed.catalogue.dump())
    with pytest.raises(Refused):
        query_registry(filed, statement)
    assert list(filed.catalogue.dump()) == before


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("selec 1", "selec"),
        ("select shape from versions", "shape"),
        ("select metrics.sharp from versions", "sharpe"),
        ("select * from version", "version"),
        ("select * from '/etc/passwd'", "passwd"),
        ("select 1; select 2", "2 statements"),
        ("", "0 statements"),
        ("select getenv('HOME')", "getenv"),
        ("with gone as (delete from versions returning *) select * from gone", "read-only"),
        ("select cast('x' as integer)", "x"),
    ],
)
def test_a_mistake_is_said_in_one_line(filed, statement, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        query_registry(filed, statement)
    assert "\n" not in caught.value.message


def test_variables_of_the_program_cannot_be_read(filed):
    secret = [1]  # DuckDB would find a frame of this name
    with pytest.raises(ConfigurationError):
        query_registry(filed, "select * from secret")
    assert secret == [1]


@pytest.fixture
def heard_ctrl_c():
    """As in a terminal: a suite that runs in the background inherits Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_question_that_takes_too_long_can_be_interrupted(filed, heard_ctrl_c):
    ctrl_c = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt):
        query_registry(
            filed,
            "select count(*) from range(100000000000) a, range(100) b where a.range % 7 = b.range",
        )
    ctrl_c.join()


def test_pyarrow_and_pandas_are_not_needed(tmp_path):
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pyarrow", "pandas", "pytz"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from pathlib import Path
from assay.adapters.duckdb import query_registry
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_registry
registry = make_registry(Path(sys.argv[1]), FixedClock(1))
assert query_registry(registry, "select count(*) from versions").rows == ((0,),)
assert query_registry(registry, "select timestamptz '2026-01-15 10:30:00+00'").rows
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
