"""What was asked in the past: stored in the lake, and read where a recipe names a request view."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from assay.domain.instants import render
from assay.errors import Conflict, ContractViolation, DefinitionError, NotFound
from assay.features import Manifest, RequestView
from assay.features.offline.past_requests import PastRequests, check_past_requests
from assay.orchestration.desk import Desk
from assay.orchestration.tabular import moments, read_table
from assay.storage.locks import FileLock
from assay.training import Recipe

_PREFIX: Final = "silver/requests_"


@dataclass(frozen=True, slots=True)
class RequestsAdded:
    """What came of adding past requests: ``rows`` are there now, ``added`` of them are new."""

    view: str
    table: str
    snapshot: str
    rows: int
    added: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def request_table(view: RequestView) -> str:
    """The lake's name for the table of past requests of a request view."""
    return _PREFIX + view.name


def add_requests(desk: Desk, name: str, frame: pl.DataFrame) -> RequestsAdded:
    """Add past requests to those of a request view; what is there already is not added again.

    Parameters
    ----------
    frame: see :class:`~assay.features.offline.past_requests.PastRequests`; whole numbers may stand
        for floats.

    Raises
    ------
    NotFound: the desk has no such request view.
    ContractViolation: the frame is no table of past requests, or one of them has not come yet;
        nothing was added.
    Conflict: another request of one entity and moment is stored already; nothing was added.
    """
    view = desk.request_view(name)
    entity = _entity(view)
    table = desk.lake.table(request_table(view))
    whole = [column for column in view.inputs if frame.schema.get(column, pl.Null()).is_integer()]
    frame = frame.with_columns(pl.col(whole).cast(pl.Float64))
    check_past_requests(table.name, frame, view.inputs, entity=entity)
    ahead = frame.filter(pl.col("as_of") > desk.clock.now())
    if len(ahead):
        who, when = ahead.select(entity, "as_of").row(0)
        raise ContractViolation(
            f"past requests {table.name}: {who} at {render(when)}, which has not come yet",
            hint="as_of is in nanoseconds since the epoch; a request is stored for good",
        )
    frame = frame.select(entity, "as_of", *view.inputs)
    # Two that add at once must not lose each other's rows.
    with FileLock(desk.layout.lake / f"{table.name}.lock"):
        stored = frame.clear() if table.current() is None else table.read()
        together = _together(table.name, stored, frame, entity)
        snapshot = table.commit(together)
    return RequestsAdded(name, table.name, snapshot.id, len(together), len(together) - len(stored))


def _together(name: str, stored: pl.DataFrame, more: pl.DataFrame, entity: str) -> pl.DataFrame:
    """What is stored and what is new, in the order of the requests' moments."""
    if stored.columns != more.columns:
        raise Conflict(
            f"table {name} has columns {', '.join(stored.columns)}, and not "
            f"{', '.join(more.columns)}",
            hint="give the request view with other inputs another name",
        )
    together = pl.concat([stored, more]).unique(maintain_order=True)
    twice = together.filter(together.select(entity, "as_of").is_duplicated())
    if len(twice):
        who, when = twice.select(entity, "as_of").row(0)
        raise Conflict(
            f"table {name} holds another request about {who} at {render(when)}",
            hint="a request is stored once and not changed",
        )
    return together.sort("as_of", entity)


def read_requests(path: Path) -> pl.DataFrame:
    """Past requests from a file: ``.parquet`` or ``.csv``.

    The moment is the column ``as_of`` (nanoseconds since the epoch), or ``timestamp`` (ISO 8601
    with a time zone), as in a request to the service.

    Raises
    ------
    NotFound: there is no such file. ConfigurationError: it is of another kind.
    ContractViolation: it cannot be read, or a timestamp is no moment.
    """
    frame = read_table(path)
    if "timestamp" not in frame.columns or "as_of" in frame.columns:
        return frame
    if frame.schema["timestamp"] != pl.String:
        # A number would have to say whether it counts seconds.
        raise ContractViolation(
            f"{path}: column timestamp is {frame.schema['timestamp']}, expected text such as "
            "2026-01-15T10:30:00Z",
            hint="or give the column as_of, nanoseconds since the epoch",
        )
    return frame.with_columns(moments(path, frame["timestamp"]).alias("as_of"))


def past_requests(desk: Desk, view: RequestView) -> PastRequests:
    """The stored past requests of a request view.

    Raises
    ------
    NotFound: there are none. ContractViolation: their inputs are not the view's.
    """
    table = desk.lake.table(request_table(view))
    snapshot = table.current()
    if snapshot is None:
        raise NotFound(
            f"table {table.name} is empty: no past requests of {view.name} are stored",
            hint=f"assay requests add {view.name} FILE",
        )
    return PastRequests(
        table.name, table.read(snapshot), view.inputs, snapshot.id, entity=_entity(view)
    )


def request_view_of(desk: Desk, recipe: Recipe) -> RequestView | None:
    """The request view that a recipe names, if it names one.

    Raises
    ------
    NotFound: the desk has no such request view.
    DefinitionError: it reads other views than the recipe's one.
    """
    if not recipe.request:
        return None
    request = desk.request_view(recipe.request)
    wanted = Manifest.of(desk.view(recipe.view)).hash
    if [Manifest.of(view).hash for view in request.stored] != [wanted]:
        raise DefinitionError(
            f"recipe {recipe.name}: request view {request.name} reads "
            f"{', '.join(view.name for view in request.stored) or 'no view'}, expected the "
            f"recipe's view {recipe.view} as the desk declares it",
            hint=f"stored=({recipe.view},)",
        )
    return request


def _entity(view: RequestView) -> str:
    """The column that says what a request is about."""
    return view.stored[0].entity if view.stored else "instrument"
