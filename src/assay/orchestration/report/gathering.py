"""From a desk to the values on the page: registry, log, training runs and tables of the lake.

Nothing is trained, judged or changed here. What cannot be read is said on the page in the place of
what it would have shown, because a page about a desk in trouble matters most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from assay.domain.instants import Instant
from assay.domain.versions import ALPHA_WEIGHTS, RISK_MODEL
from assay.errors import AssayError, NotFound
from assay.features.offline.labels import Entry as LabelEntry
from assay.features.offline.labels import ForwardReturn, forward_labels
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.noise import NoiseControl, kept_noise
from assay.orchestration.evidence.tables import one_date_per_session
from assay.orchestration.kept_proofs import kept_proof
from assay.orchestration.modelling import TrainingRun, load_run, recorded_prices
from assay.orchestration.report.live import read_replay
from assay.orchestration.report.series import direction_picture, volatility_picture
from assay.orchestration.report.values import (
    Curve,
    DataSheet,
    DeskReport,
    DirectionPicture,
    GoldSheet,
    LogSheet,
    ModelSheet,
    UniverseSheet,
    VersionSheet,
    VolatilityPicture,
)
from assay.registry import Entry, EventOutcome, EventType, GateRecord
from assay.registry.catalogue import VersionRecord
from assay.validation.backtest import Costs

_NUMBER = re.compile(r"[<>]=? *(-?[0-9.eE+-]+)")


def gather(desk: Desk) -> DeskReport:
    """Read everything that the page shows.

    Raises
    ------
    Tampered: the registry's log was cut or replaced, so nothing it says can be shown.
    """
    registry = desk.registry
    as_of = registry.now()
    log = registry.verify_log()
    models = [_model(desk, name, as_of) for name in registry.names()]
    return DeskReport(
        desk=desk.layout.name,
        as_of=as_of,
        models=tuple(sorted(models, key=lambda one: (one.live.version is None, one.name))),
        log=LogSheet(
            log.entries, log.head.hash, log.signed_up_to, tuple(str(one) for one in log.problems)
        ),
        gold=_gold(desk),
        data=_data(desk),
        universe=_universe(desk),
        live=read_replay(desk.layout.root),
    )


def _model(desk: Desk, name: str, as_of: Instant) -> ModelSheet:
    registry = desk.registry
    events = registry.history(name)
    versions = version_sheets(desk, name)
    picture, no_picture = None, "no version has been judged yet"
    sheet = version_to_picture(versions)
    if sheet is not None:
        try:
            picture, no_picture = picture_of(desk, sheet, versions), ""
        except (AssayError, OSError, KeyError) as error:
            message = error.message if isinstance(error, AssayError) else repr(error)
            no_picture = f"the record of {name} {sheet.record.version} cannot be read: {message}"
    return ModelSheet(
        name=name,
        live=registry.live_at(name, as_of),
        versions=versions,
        events=events,
        picture=picture,
        no_picture=no_picture,
        noise=tuple(_noise(desk, versions)),
    )


def _noise(desk: Desk, versions: Sequence[VersionSheet]) -> Iterable[NoiseControl]:
    for sheet in versions:
        try:
            found = kept_noise(desk, sheet.record.name, sheet.record.version)
        except (AssayError, OSError):
            # A policy that cannot be read is said where the gates are.
            found = None
        if found is not None:
            yield found


def version_sheets(desk: Desk, name: str) -> tuple[VersionSheet, ...]:
    """Every version of a model, the newest first."""
    events = desk.registry.history(name)
    return tuple(_version(desk, one, events) for one in reversed(desk.registry.list(name)))


def version_to_picture(versions: Sequence[VersionSheet]) -> VersionSheet | None:
    """The newest judged version with a record of its own, of versions from new to old.

    A version that was made from another one's training run has that one's predictions; a picture
    of it would compare a model with itself.
    """
    judged = [(k, sheet) for k, sheet in enumerate(versions) if sheet.gates is not None]
    for k, sheet in judged:
        older = {one.metadata.parent_run for one in versions[k + 1 :] if one.metadata is not None}
        if sheet.metadata is None or sheet.metadata.parent_run not in older - {None}:
            return sheet
    return judged[0][1] if judged else None


def _version(desk: Desk, record: VersionRecord, events: tuple[Entry, ...]) -> VersionSheet:
    registry = desk.registry
    gates = registry.gate_record(record.name, record.version)
    report = registry.validate(record.name, record.version)
    problems = tuple(f"{one.file}: {one.reason}" for one in report.problems)
    registered = [one for one in events if one.seq == record.registered_seq]
    promoted = [
        one
        for one in events
        if one.to_version == record.version
        and one.type is EventType.PROMOTE
        and one.outcome is EventOutcome.DONE
    ]
    champions = [
        one.version
        for one in registry.list(record.name)
        if gates is not None and one.digest == gates.champion_digest != record.digest
    ]
    return VersionSheet(
        record=record,
        description=registered[0].reason if registered else "",
        gates=gates,
        evidence={one.name: one for one in registry.evidence(record.name, record.version)},
        approvers=tuple(promoted[-1].evidence.get("approved_by", ())) if promoted else (),
        against=champions[0] if champions else None,
        why_off=_why_off(desk, gates),
        metadata=None if problems else registry.metadata(record.name, record.version),
        problems=problems,
    )


def _why_off(desk: Desk, gates: GateRecord | None) -> Mapping[str, str]:
    # Only while the policy is the one that judged: another may have other reasons.
    if gates is None or not gates.switched_off:
        return {}
    try:
        policy = desk.policy
        if policy.digest != gates.policy_digest:
            return {}
        return {gate.name: gate.why or "" for gate in policy.gates(gates.policy)}
    except (AssayError, OSError):
        return {}


def picture_of(
    desk: Desk, sheet: VersionSheet, versions: tuple[VersionSheet, ...]
) -> VolatilityPicture | DirectionPicture | None:
    """A version's record out of sample; None for kinds that have none.

    Raises
    ------
    NotFound: it names no training run, its files do not verify, or the run is not recorded here.
    """
    if sheet.metadata is None:
        raise NotFound("its files do not verify")
    if not sheet.metadata.parent_run:
        raise NotFound("it names no training run")
    run = load_run(desk, sheet.metadata.parent_run)
    horizon = run.record["recipe"]["label"]["horizon"]
    if sheet.record.kind == RISK_MODEL:
        label = ForwardReturn(horizon, entry=LabelEntry.LAST_FIX)
        table = _with_returns(desk, run, label, "realised_return")
        champion = next((one for one in versions if one.record.version == sheet.against), None)
        if champion is not None and champion.metadata is not None:
            theirs = load_run(desk, champion.metadata.parent_run or "").predictions()
            table = table.join(
                theirs.select("instrument", "as_of", champion="prediction"),
                on=["instrument", "as_of"],
                how="left",
                maintain_order="left",
            )
        coverage = sheet.evidence.get("var_coverage")
        return volatility_picture(
            one_date_per_session(table),
            candidate=sheet.record.version,
            champion=sheet.against if "champion" in table.columns else None,
            horizon=horizon,
            level=0.05 if coverage is None else coverage.details.get("expected_rate", 0.05),
        )
    if sheet.record.kind == ALPHA_WEIGHTS:
        label = ForwardReturn(1, entry=LabelEntry.NEXT_FIX)
        table = _with_returns(desk, run, label, "next_return")
        return direction_picture(
            one_date_per_session(table),
            candidate=sheet.record.version,
            costs=_costs(sheet),
            horizon=horizon,
            ic_required=_ic_required(sheet.gates),
        )
    return None


def _with_returns(desk: Desk, run: TrainingRun, label: ForwardReturn, name: str) -> pl.DataFrame:
    # From the prices behind the recorded labels, as the evidence was measured.
    table = run.predictions()
    prices, known_at = recorded_prices(desk, run)
    returns = forward_labels(table, label, prices, known_at=known_at)["label"]
    return table.with_columns(returns.alias(name))


def _costs(sheet: VersionSheet) -> Costs:
    """What the evidence assumed about costs, so that the picture is of the same book."""
    measured = sheet.evidence.get("sharpe_after_costs")
    details = {} if measured is None else measured.details
    standard = Costs()
    return Costs(
        basis_points=details.get("basis_points", standard.basis_points),
        exposure_cap=details.get("exposure_cap", standard.exposure_cap),
    )


def _ic_required(gates: GateRecord | None) -> float | None:
    for gate in () if gates is None else gates.results:
        found = _NUMBER.fullmatch(gate.threshold) if gate.name == "ic" else None
        if found is not None:
            return float(found[1])
    return None


def _gold(desk: Desk) -> tuple[GoldSheet, ...]:
    sheets = []
    for name in desk.lake.tables():
        layer, _, view = name.partition("/")
        snapshot = desk.lake.table(name).current() if layer == "gold" else None
        if snapshot is not None:
            sheets.append(
                GoldSheet(
                    view=view,
                    rows=snapshot.rows,
                    snapshot=snapshot.id,
                    source=snapshot.metadata.get("source", ""),
                    manifest=snapshot.metadata.get("manifest", ""),
                    proof=kept_proof(desk, view, snapshot.id),
                )
            )
    return tuple(sheets)


def _data(desk: Desk) -> DataSheet | None:
    snapshots = {}
    for name in desk.lake.tables():
        snapshot = desk.lake.table(name).current()
        if snapshot is not None:
            snapshots[name] = snapshot.id
    if "silver/rates" not in snapshots:
        return None
    rates = desk.lake.table("silver/rates").read(columns=["event_time", "extreme"])
    quarantined: dict[str, dict[str, int]] = {}
    if "quarantine/rates" in snapshots:
        broken = desk.lake.table("quarantine/rates").read(columns=["event_time", "reason"])
        for reason, year, number in _yearly(broken, "reason").iter_rows():
            quarantined.setdefault(str(year), {})[reason] = number
    return DataSheet(
        facts=len(rates),
        by_year={str(year): number for year, number in _yearly(rates).iter_rows()},
        quarantined=quarantined,
        extremes=int(rates["extreme"].sum()),
        first=rates["event_time"].min(),  # type: ignore[arg-type]
        last=rates["event_time"].max(),  # type: ignore[arg-type]
        snapshots=snapshots,
    )


def _yearly(frame: pl.DataFrame, *by: str) -> pl.DataFrame:
    year = pl.col("event_time").cast(pl.Datetime("ns")).dt.year().alias("year")
    return frame.group_by(*by, year).len().sort("year", *by)


def _universe(desk: Desk) -> UniverseSheet | None:
    names = desk.lake.tables()
    if "silver/universe_instruments" not in names:
        return None
    table = desk.lake.table("silver/universe_instruments").read()
    if table.is_empty():
        return None
    monthly = (
        table.group_by("event_time")
        .agg(pl.col("member").sum(), pl.len(), pl.col("known_at").max())
        .sort("event_time")
    )
    when = tuple(float(one) for one in monthly["event_time"])
    last = table.filter(pl.col("event_time") == table["event_time"].max()).sort("instrument")
    out = last.filter(~pl.col("member")).select("instrument", "reasons").rows()
    if "silver/universe_currencies" in names:
        # A currency that is out takes its instruments with it: its reasons are the reasons.
        currencies = desk.lake.table("silver/universe_currencies").read()
        now = currencies.filter(pl.col("event_time") == currencies["event_time"].max())
        alone = [row for row in out if " is out" not in row[1]]
        out = now.filter(~pl.col("member")).sort("currency").select("currency", "reasons").rows()
        out += alone
    return UniverseSheet(
        members=Curve("in the universe", when, tuple(float(one) for one in monthly["member"])),
        known=Curve(
            "instruments there could be", when, tuple(float(one) for one in monthly["len"])
        ),
        latest=tuple(last.filter("member")["instrument"].to_list()),
        as_of=int(monthly["known_at"][-1]),
        out=tuple((str(name), str(reasons)) for name, reasons in out),
    )
