"""Past requests: what was brought, for which entity, and when; the rows that a model with
request-time features learns from.

Nothing but a record can tell what a request brought in the past: no rule gives the size of an order
that nobody placed. So the rows of such a training set are the recorded requests themselves, each at
its own moment, with the stored features that were known then.

A request whose inputs are not finite numbers would be refused when it is served, and so it is here:
a model is trained on nothing that it is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from assay.domain.instants import render
from assay.errors import ContractViolation, did_you_mean
from assay.features.definition.manifest import Manifest
from assay.features.definition.requests import RequestView
from assay.features.kernel.requests import RequestFeatures


class Joined(Protocol):
    """A table of features that was joined, wherever its rows are."""

    @property
    def manifest_hash(self) -> str: ...

    @property
    def features(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class PastRequests:
    """A table of past requests, with what is needed to name and read it again.

    Attributes
    ----------
    name: the table in the lake, for example ``silver/requests_order``.
    frame: column ``entity`` (String), ``as_of``, the moment of the request (Int64 nanoseconds
        UTC), and one Float64 column per input, all finite. One row per entity and moment, in any
        order; further columns do no harm.
    inputs: names of what a request brings.
    snapshot_id: which state of the table the rows are.

    Raises
    ------
    ContractViolation: a column is missing or of another type, a value is missing or not finite, or
        an entity was asked about twice at one moment.
    """

    name: str
    frame: pl.DataFrame
    inputs: tuple[str, ...]
    snapshot_id: str
    entity: str = "instrument"

    def __post_init__(self) -> None:
        check_past_requests(self.name, self.frame, self.inputs, entity=self.entity)

    def describe(self) -> dict[str, Any]:
        """A JSON object from which :func:`assay.features.offline.training_sets.rebuild` reads the
        table again.
        """
        return {
            "table": self.name,
            "snapshot": self.snapshot_id,
            "entity": self.entity,
            "inputs": list(self.inputs),
        }


def check_past_requests(
    name: str, frame: pl.DataFrame, inputs: Sequence[str], *, entity: str = "instrument"
) -> None:
    """Refuse a frame that is no table of past requests; see :class:`PastRequests`."""
    types = {entity: pl.String(), "as_of": pl.Int64(), **dict.fromkeys(inputs, pl.Float64())}
    for column, dtype in types.items():
        if column not in frame.columns:
            raise ContractViolation(
                f"past requests {name} have no column {column!r}",
                hint=did_you_mean(column, frame.columns) if frame.columns else None,
            )
        if frame.schema[column] != dtype:
            raise ContractViolation(
                f"past requests {name}: column {column} is {frame.schema[column]}, expected {dtype}"
            )
        bad = frame[column].is_null()
        if dtype == pl.Float64():
            bad |= ~frame[column].is_finite().fill_null(value=False)
        if bad.any():
            row = int(bad.arg_true()[0])
            raise ContractViolation(
                f"past requests {name}: {column} is {frame[column][row]} in row {row}, and missing "
                f"or not finite in {int(bad.sum())} rows",
                hint="leave these requests out: one like them is refused when it is served",
            )
    twice = frame.select(entity, "as_of").is_duplicated()
    if twice.any():
        who, when = frame.filter(twice).select(entity, "as_of").row(0)
        raise ContractViolation(
            f"past requests {name}: {who} was asked about more than once at {render(when)}",
            hint="keep one of them: a row of a training set is one entity at one moment",
        )


def with_request_features(
    frame: pl.DataFrame, view: RequestView, tables: Sequence[Joined]
) -> pl.DataFrame:
    """The frame with the request view's features, computed by the kernel that serves them.

    They are null where a stored row that the view reads was not known or had gone stale at the
    row's moment: there, a prediction is refused.

    Parameters
    ----------
    frame: past requests, joined with ``tables`` as of each.

    Raises
    ------
    ContractViolation: a table has another manifest than the request view was declared over, an
        input is missing, or a name is taken.
    """
    found = {table.manifest_hash: table for table in tables}
    answered = pl.lit(value=True)
    for stored in view.stored:
        table = found.get(Manifest.of(stored).hash)
        if table is None:
            raise ContractViolation(
                f"request view {view.name} reads view {stored.name} of manifest "
                f"{Manifest.of(stored).hash[:12]}: the tables have "
                f"{', '.join(sorted(key[:12] for key in found)) or 'none'}",
                hint="build the features of the view as it is declared now",
            )
        # A stored row that was visible has values, NaN among them; no row has nulls.
        answered &= pl.any_horizontal(pl.col(table.features).is_not_null())
    made = RequestFeatures(view).with_features(frame)
    return made.with_columns(pl.when(answered).then(pl.col(view.feature_names)))


def describe_request_view(view: RequestView) -> dict[str, Any]:
    """Which request view a training set was made with."""
    return {
        "view": view.name,
        "manifest": view.manifest_hash,
        "inputs": list(view.inputs),
        "features": list(view.feature_names),
    }


def check_request_view(described: Mapping[str, Any] | None, view: RequestView | None) -> None:
    """Refuse to repeat a training set with another request view than it was made with.

    Raises
    ------
    ContractViolation: the view is missing, another one, or not called for.
    """
    wanted = None if described is None else described["manifest"]
    given = None if view is None else view.manifest_hash
    if given != wanted:
        raise ContractViolation(
            f"the training set has a request view of manifest {str(wanted)[:12]}, given was "
            f"{str(given)[:12]}",
            hint="pass request=, the request view as it was declared then",
        )
