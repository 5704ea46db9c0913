"""One statement over a registry's tables, which can change nothing and reach nothing else."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from assay.adapters.duckdb.tables import TABLES, registry_frames
from assay.errors import ConfigurationError, Refused
from assay.registry import RegistryReader

_CLOSED: Mapping[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "memory_limit": "2GB",
    "threads": "2",
}
_LOOK = 0.1
_READS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """What a statement answered. Times are ISO 8601, in UTC, to the nanosecond."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def cells(self) -> list[tuple[Any, ...]]:
        """The rows for a table or a file of text: what is nested as JSON."""
        return [
            tuple(
                json.dumps(_plain(cell), ensure_ascii=False)
                if isinstance(cell, dict | list | tuple)
                else cell
                for cell in row
            )
            for row in self.rows
        ]

    def to_json(self) -> list[dict[str, Any]]:
        """One object per row; of two columns with one name the second gets a number."""
        names: list[str] = []
        for name in self.columns:
            names.append(name if name not in names else f"{name}_{len(names) + 1}")
        return [
            {name: _plain(value) for name, value in zip(names, row, strict=True)}
            for row in self.rows
        ]


def query_registry(registry: RegistryReader, statement: str) -> SqlAnswer:
    """Answer one SELECT over :data:`~assay.adapters.duckdb.tables.TABLES`.

    The statement sees a copy that is opened for reading only, with access to files, networks and
    extensions switched off for good.

    Raises
    ------
    ConfigurationError: it is no statement that DuckDB understands.
    Refused: it would change something, or reach beyond these tables.
    """
    with tempfile.TemporaryDirectory(prefix="assay-sql-") as name:
        copy = Path(name, "registry.duckdb")
        _fill(registry, copy)
        with duckdb.connect(copy, read_only=True, config=dict(_CLOSED)) as connection:
            # The first ends access; the second keeps a statement from ending that.
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            try:
                return _interruptible(connection, _only_select(connection, statement))
            except duckdb.PermissionException as error:
                raise Refused(
                    f"the statement reaches beyond the registry: {_first_line(error)}",
                    hint=f"it may read {', '.join(TABLES)}",
                ) from None
            except duckdb.Error as error:
                raise ConfigurationError(
                    f"SQL: {_first_line(error)}",
                    hint=f"tables: {', '.join(TABLES)}; their columns: "
                    'assay models sql "describe versions"',
                ) from None


def _fill(registry: RegistryReader, path: Path) -> None:
    frames = registry_frames(registry.catalogue)
    with duckdb.connect(path) as connection:
        for table, frame in frames.items():
            parquet = path.with_name(f"{table}.parquet")
            frame.write_parquet(parquet)
            columns = "* REPLACE (evidence::JSON AS evidence)" if table == "events" else "*"
            # The names are this module's own; the path is one of a temporary folder.
            connection.execute(
                f"CREATE TABLE {table} AS SELECT {columns} FROM read_parquet(?)",  # noqa: S608
                [str(parquet)],
            )
            parquet.unlink()


def _only_select(connection: duckdb.DuckDBPyConnection, statement: str) -> str:
    found = connection.extract_statements(statement)
    if len(found) != 1:
        raise ConfigurationError(f"{len(found)} statements: expected one", hint="SELECT ...")
    if found[0].type not in _READS:
        raise Refused(
            f"a statement of the kind {found[0].type.name}: expected SELECT; the registry is "
            "changed by its own commands only",
            hint="assay models --help",
        )
    return str(found[0].query).strip().rstrip(";")


def _interruptible(connection: duckdb.DuckDBPyConnection, statement: str) -> SqlAnswer:
    """Ask in another thread: DuckDB looks for Ctrl-C between two steps, and one can take hours."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        answer = pool.submit(_ask, connection, statement)
        try:
            # Awake now and then: a signal that another thread was given wakes nobody here.
            while not wait([answer], timeout=_LOOK).done:
                pass
            return answer.result()
        except KeyboardInterrupt:
            # Said until it is heard: DuckDB forgets one that comes before its first step.
            connection.interrupt()
            while not wait([answer], timeout=_LOOK).done:
                connection.interrupt()
            raise


def _ask(connection: duckdb.DuckDBPyConnection, statement: str) -> SqlAnswer:
    answer = connection.execute(statement)
    names = tuple(str(column[0]) for column in answer.description or ())
    types = [str(column[1]) for column in answer.description or ()]
    times = {number for number, kind in enumerate(types) if kind.startswith("TIMESTAMP")}
    if times:
        # Python's own times end at microseconds: the database writes them out.
        inner = [f"c{number}" for number in range(len(types))]
        outer = ", ".join(
            f"CAST({column} AS VARCHAR)" if number in times else column
            for number, column in enumerate(inner)
        )
        answer = connection.execute(
            f"SELECT {outer} FROM (\n{statement}\n) AS answer({', '.join(inner)})"  # noqa: S608
        )
    rows = tuple(
        tuple(
            _iso(value) if number in times and value is not None else value
            for number, value in enumerate(row)
        )
        for row in answer.fetchall()
    )
    return SqlAnswer(names, rows)


def _iso(text: str) -> str:
    """A timestamp as the rest of Assay writes it."""
    return text.replace(" ", "T", 1) + ("" if text.endswith("+00") else "Z")


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _first_line(error: duckdb.Error) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else "no reason given"
    advice = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
    return " ".join([said.split(": ", 1)[-1] if ": " in said else said, *advice])
