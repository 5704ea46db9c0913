"""The registry at 10,000 versions: its reads and its writes against bare databases and files.

The catalogue is filled through the log: entries are chained and appended in bulk, and the index is
rebuilt from them, which is one of the rows. Folders are made for the versions that are opened. All
of it on a file and SQLite, and on a PostgreSQL server of this machine where there is one.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from assay.adapters.postgres import PostgresAddress, PostgresLedger
from assay.adapters.postgres.connection import connect
from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.domain.versions import RISK_MODEL
from assay.registry import Entry, EventOutcome, EventType, ModelRegistry, adopt_log, log_file
from assay.testing.clocks import FixedClock
from assay.testing.postgres_server import INSTALL, PostgresServer, find_postgres
from assay.testing.redis_server import free_port
from assay.testing.versions import AUTHOR, make_candidate, make_registry

VERSIONS = 10_000
MODELS = 10
T0 = 1_700_000_000_000_000_000


def rows() -> list[dict[str, Any]]:
    """Measure; every time is in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as name:
        measured = [*_writes(Path(name, "small"), None), *_reads(Path(name, "large"), None)]
    programs = find_postgres()
    if programs is None:
        sys.stderr.write(f"no PostgreSQL on this machine: {INSTALL}\n")
        return measured
    with (
        tempfile.TemporaryDirectory(prefix="assay-bench-") as name,
        PostgresServer(programs, port=free_port()) as server,
    ):
        on_server = [
            *_writes(Path(name, "small"), server.url("small")),
            *_reads(Path(name, "large"), server.url("large")),
        ]
    return [*measured, *({**row, "name": f"PostgreSQL: {row['name']}"} for row in on_server)]


def _ledger(url: str | None) -> PostgresLedger | None:
    return None if url is None else PostgresLedger(url)


def _row(name: str, ours: float, target: float, reference: float | None = None) -> dict[str, Any]:
    ratio = None if reference is None else ours / reference
    return {
        "name": name,
        "unit": "ms",
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "target": target,
        "met": ours <= target,
    }


def _milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The median of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)


def _writes(folder: Path, url: str | None) -> list[dict[str, Any]]:
    registry = make_registry(folder, FixedClock(T0), ledger=_ledger(url))
    registry.register(make_candidate())  # imports what registering needs
    ten_megabytes = os.urandom(10 * 2**20)
    candidates = [
        make_candidate(version=f"1.{number}.0", weights=(number, 1), padding=ten_megabytes)
        for number in range(1, 6)
    ]

    def plain() -> None:
        with (folder / "plain").open("wb") as handle:
            handle.write(ten_megabytes)
            handle.flush()
            os.fsync(handle.fileno())

    waiting = iter(candidates)
    register = _milliseconds(lambda: registry.register(next(waiting)), len(candidates))
    written = _milliseconds(plain, 5)
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"):
        break_glass(
            registry, "fx_vol", version, initiated_by=AUTHOR, reason="benchmark",
            clock=registry.clock, monotonic=time.monotonic,
        )  # fmt: skip
    back = _milliseconds(
        lambda: rollback(
            registry, "fx_vol", reason="benchmark", initiated_by=AUTHOR, monotonic=time.monotonic
        ),
        3,
    )
    opened = _milliseconds(lambda: registry.open_version("fx_vol", "1.1.0"), 5)
    registry.close()
    return [
        _row("register 10 MB (reference: write and sync 10 MB)", register, 200.0, written),
        _row("roll back to a version of 10 MB", back, 1_000.0),
        _row("open and verify a version of 10 MB", opened, 500.0),
    ]


def _reads(folder: Path, url: str | None) -> list[dict[str, Any]]:
    registry = _filled(folder)
    if url is not None:
        ledger = PostgresLedger(url)
        root, keys, clock = registry.root, registry.keyring, registry.clock
        adopt_log(root, keys, clock, log_file(root), ledger=ledger)
        registry = ModelRegistry(root, keys, clock, ledger=ledger)
    rebuild = _milliseconds(registry.rebuild, 1)
    assert len(registry.list()) == VERSIONS
    name = "model_3"
    moment = T0 + VERSIONS * 10**9 // 2
    bare = "bare SQLite" if url is None else "bare psycopg"
    query = _sqlite(registry) if url is None else _psycopg(url)

    one = "SELECT * FROM versions WHERE name = ? AND stage = 'production'"
    every = "SELECT * FROM versions ORDER BY name, major, minor, patch"
    then = "SELECT version FROM production WHERE name = ? AND at <= ? ORDER BY at DESC LIMIT 1"
    measured = [
        _row(
            f"current version among 10,000 (reference: {bare})",
            _milliseconds(lambda: registry.current(name), 200),
            1.0,
            _milliseconds(query(one, name), 200),
        ),
        _row(
            f"list of 10,000 versions (reference: {bare})",
            _milliseconds(registry.list, 9),
            50.0,
            _milliseconds(query(every), 9),
        ),
        _row(
            f"what was live at a moment (reference: {bare})",
            _milliseconds(lambda: registry.live_at(name, moment), 200),
            5.0,
            _milliseconds(query(then, name, moment), 200),
        ),
        _row("rebuild a catalogue of 10,000 versions", rebuild, 10_000.0),
    ]
    registry.close()
    return measured


Query = Callable[..., Callable[[], object]]


def _sqlite(registry: ModelRegistry) -> Query:
    """The same question to SQLite itself, opening it each time as the registry does."""
    database = registry.root / "registry.db"

    def query(statement: str, *values: object) -> Callable[[], object]:
        def ask() -> object:
            connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
            try:
                return connection.execute(statement, values).fetchall()
            finally:
                connection.close()

        return ask

    return query


def _psycopg(url: str) -> Query:
    """The same question to the client itself, over a connection that is kept."""
    connection = connect(PostgresAddress.parse(url))

    def query(statement: str, *values: object) -> Callable[[], object]:
        text = statement.replace("?", "%s").encode()
        return lambda: connection.execute(text, values or None).fetchall()

    return query


def _filled(folder: Path) -> ModelRegistry:
    """A registry whose log registers 10,000 versions and promotes every tenth."""
    registry = make_registry(folder, FixedClock(T0), audit=False)
    lines: list[bytes] = []
    previous, live = "0" * 64, dict.fromkeys(f"model_{n}" for n in range(MODELS))
    template = Entry(
        0, 0, EventType.REGISTER, "", None, None, AUTHOR, EventOutcome.DONE, "", {}, ""
    )

    def add(entry: Entry) -> None:
        nonlocal previous
        seq = len(lines) + 1
        sealed = replace(entry, seq=seq, at=T0 + seq * 10**9, previous=previous).sealed()
        lines.append(sealed.to_line() + b"\n")
        previous = sealed.hash

    for number in range(VERSIONS):
        model, version = f"model_{number % MODELS}", f"1.{number // MODELS}.0"
        evidence = {
            "kind": RISK_MODEL,
            "digest": f"{number:064x}",
            "identity": f"{number:064x}",
            "author": AUTHOR,
            "baseline": False,
            "created_at": T0,
        }
        entry = replace(
            template, model=model, from_version=live[model], to_version=version, evidence=evidence
        )
        add(entry)
        if number % 100 < MODELS:
            add(replace(entry, type=EventType.BREAK_GLASS, reason="benchmark", evidence={}))
            live[model] = version
    log = registry.root / "log" / "events.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"".join(lines))
    return registry
