"""From gold to a staged version: training set, training run, registration.

A run is identified by what determines it: recipe, training set, manifest, and the packages that
compute. Asking for a run that exists gives the recorded one back; nothing is trained twice.
"""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from assay.domain.canonical import canonical_bytes, content_hash, sha256_hex
from assay.domain.instants import Instant, render
from assay.domain.versions import InputSchema
from assay.errors import ConfigurationError, NotFound, Tampered, did_you_mean
from assay.features import Manifest
from assay.features.offline.labels import Entry, ForwardReturn, ForwardVariance, Label, PriceTable
from assay.features.offline.point_in_time import FeatureTable
from assay.features.offline.stored_table import time_to_live
from assay.features.offline.training_sets import Spine, TrainingSet, get_training_set, rebuild
from assay.orchestration.building import current_gold
from assay.orchestration.desk import Desk
from assay.orchestration.environment import environment_of
from assay.orchestration.golden import golden_rows
from assay.orchestration.past_requests import past_requests, request_view_of
from assay.orchestration.progress import Progress
from assay.orchestration.provenance import GitState, git_state
from assay.registry import ModelMetadata, Registration, capture_environment
from assay.registry.sealed import Candidate
from assay.storage.files import write_atomic
from assay.training import Baseline, LabelDeclaration, Recipe, train
from assay.training.run import TrainingResult

_RECORD: Final = "run.json"
_PARTS: Final = frozenset(
    ("recipe", "recipe_hash", "model", "training_set", "rebuilt_digest", "parity", "files")
)
_BENCH: Final = "bench.json"
_PATHS: Final = "paths.parquet"
_FILES: Final = ("model.onnx", "parity.json", "bench.json", "golden.json", "predictions.parquet")


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One recorded training run, in ``artifacts/runs/<id>/``.

    Attributes
    ----------
    record: what determined the run and what came out, as JSON.
    folder: where its files lie.
    reused: whether it had been recorded before.
    seconds: how long this took; for a reused run, how long it took to find.
    """

    id: str
    record: Mapping[str, Any]
    folder: Path
    reused: bool
    seconds: float

    @property
    def schema(self) -> InputSchema:
        return InputSchema.from_json(self.record["schema"])

    @property
    def known_at(self) -> Instant:
        """The cut-off of the training set: the model knows nothing that became known later."""
        return int(self.record["training_set"]["query"]["known_at"])

    @property
    def seal(self) -> str:
        """SHA-256 of what evidence rests on: the record and its files, timings left out.

        A version's signed metadata holds it, so that nobody can change a run's predictions, and
        the record to match, between training and judging.
        """
        files = {name: digest for name, digest in self.record["files"].items() if name != _BENCH}
        return content_hash({**self.record, "bench": None, "files": files})

    def read(self, name: str) -> bytes:
        """A file of the run, checked against the record.

        Raises
        ------
        Tampered: the file has changed since the run was recorded.
        """
        try:
            data = (self.folder / name).read_bytes()
        except FileNotFoundError:
            data = b""
        if sha256_hex(data) != self.record["files"][name]:
            raise Tampered(
                f"file {self.folder / name} has changed since the run was recorded",
                hint=f"remove {self.folder} and train again",
            )
        return data

    def predictions(self) -> pl.DataFrame:
        """Out-of-sample predictions: instrument, as_of, label, prediction, fold, interval."""
        return pl.read_parquet(io.BytesIO(self.read("predictions.parquet")))

    def paths(self) -> pl.DataFrame | None:
        """The same by path of the recipe's robustness scheme; None where it has none."""
        if _PATHS not in self.record["files"]:
            return None
        return pl.read_parquet(io.BytesIO(self.read(_PATHS)))

    def to_json(self) -> dict[str, Any]:
        keys = ("recipe", "model", "training_set", "rebuilt_digest", "metrics", "parity", "bench")
        return {
            "id": self.id,
            **{key: self.record[key] for key in keys},
            "rebuilt_equal": self.record["rebuilt_digest"] == self.record["training_set"]["digest"],
            "reused": self.reused,
            "seconds": self.seconds,
        }


def price_table(desk: Desk, view_name: str) -> PriceTable:
    """The prices that a view's source holds, with the snapshot they come from."""
    view = desk.view(view_name)
    table = desk.lake.table(f"silver/{view.source}")
    snapshot = table.current()
    if snapshot is None:
        raise NotFound(f"table {table.name} is empty", hint="assay ingest")
    return PriceTable(table.name, table.read(snapshot), snapshot.id, entity=view.entity)


def recorded_prices(desk: Desk, run: TrainingRun) -> tuple[PriceTable, Instant]:
    """The prices and the cut-off that a run's labels were made of.

    Raises
    ------
    NotFound: the lake no longer holds that snapshot. Tampered: a file of it has changed.
    """
    query = run.record["training_set"]["query"]
    prices = query["prices"]
    frame = desk.lake.table(prices["table"]).read(prices["snapshot"])
    table = PriceTable(
        prices["table"], frame, prices["snapshot"], prices["column"], prices["entity"]
    )
    return table, query["known_at"]


def label_of(declared: LabelDeclaration) -> Label:
    """The forward label that a recipe declares.

    Raises
    ------
    ConfigurationError: no such label; the hint names the nearest.
    """
    if declared.entry == 0:
        entry, delay = Entry.LAST_FIX, 0
    else:
        entry, delay = Entry.NEXT_FIX, declared.entry - 1
    kinds: dict[str, type[Label]] = {
        "log_return": ForwardReturn,
        "squared_log_return": ForwardVariance,
    }
    if declared.name not in kinds:
        raise ConfigurationError(
            f"label {declared.name!r} of a recipe", hint=did_you_mean(declared.name, kinds)
        )
    return kinds[declared.name](declared.horizon, entry=entry, delay=delay)


def build_training_set(
    desk: Desk, recipe: Recipe, *, known_by: Instant | None = None
) -> TrainingSet:
    """The point-in-time training set of a recipe: members of the universe at every session, or the
    past requests where the recipe names a request view.

    The cut-off is the moment at which the last stored price became known, so that the set depends
    on what is stored and not on when it is asked for.

    Parameters
    ----------
    known_by: hold back what became known later: no decision, feature or label of the set rests on
        it, and neither does evidence measured on the set's prices.

    Raises
    ------
    NotFound: the view has not been built, no price was known by then, or no past requests are
        stored. Conflict: the view or its source changed since.
    DefinitionError: the request view reads other views than the recipe's.
    """
    view = desk.view(recipe.view)
    request = request_view_of(desk, recipe)
    table, snapshot = current_gold(desk, view)
    prices = price_table(desk, view.name)
    moments = prices.frame["known_time"]
    if known_by is not None:
        moments = moments.filter(moments <= known_by)
        if moments.is_empty():
            raise NotFound(f"no price in {prices.name} was known by {render(known_by)}")
    cut_off = int(moments.max())  # type: ignore[arg-type]
    features = FeatureTable(
        name=table.name,
        frame=table.read(snapshot),
        features=view.feature_names,
        snapshot_id=snapshot.id,
        manifest_hash=snapshot.metadata["manifest"],
        entity=view.entity,
        ttl=time_to_live(view),
    )
    if request is None:
        spine = Spine.of_members(prices, end=None if known_by is None else cut_off + 1)
    else:
        Manifest(request.manifest_hash, request.manifest).publish(desk.layout.lake / "manifests")
        spine = Spine.of_requests(past_requests(desk, request), end=cut_off + 1)
    return get_training_set(
        spine,
        [features],
        label_of(recipe.label),
        request=request,
        prices=prices,
        known_at=cut_off,
        drop_unlabelled=True,
    )


def train_recipe(
    desk: Desk, name: str, progress: Progress, *, known_by: Instant | None = None
) -> TrainingRun:
    """Train a recipe of the desk, or find the recorded run with the same inputs.

    ``known_by`` holds back what became known later, as in :func:`build_training_set`.
    """
    started = time.monotonic()
    recipe = desk.recipe(name)
    progress.event(f"{name}: joining features and labels point in time")
    training_set = build_training_set(desk, recipe, known_by=known_by)
    packages = capture_environment()["packages"]
    determined = {
        "recipe": recipe.to_json(),
        "training_set": training_set.digest,
        "manifest": training_set.manifest_hash,
        "packages": packages,
        "machine": platform.machine(),
    }
    identifier = content_hash(determined)[:16]
    folder = desk.layout.runs / identifier
    if (folder / _RECORD).is_file():
        progress.event(f"{name}: run {identifier} is recorded, nothing to train")
        return load_run(desk, identifier, seconds=time.monotonic() - started)
    progress.event(f"{name}: rebuilding the training set from its description")
    again = rebuild(training_set.description(), desk.lake, request=request_view_of(desk, recipe))
    result = train(
        recipe,
        training_set.frame,
        features=training_set.features,
        threads=desk.layout.threads,
        progress=lambda what, done, total: progress.event(f"{what} ({done}/{total})"),
    )
    record = {
        "format": 1,
        "id": identifier,
        **determined,
        "recipe": recipe.to_json(),
        "recipe_hash": recipe.hash,
        "model": recipe.model,
        "training_set": training_set.description(),
        "rebuilt_digest": again.digest,
        "environment": environment_of(desk),
        "git": _git(desk),
        "schema": result.schema.to_json(),
        "model_file": result.model_file,
        "metrics": result.metrics,
        "config": result.config,
        "parity": result.parity,
        "bench": result.bench,
    }
    _write_run(folder, record, result, training_set)
    return load_run(desk, identifier, reused=False, seconds=time.monotonic() - started)


def load_run(
    desk: Desk, identifier: str, *, reused: bool = True, seconds: float = 0.0
) -> TrainingRun:
    """A recorded run.

    Raises
    ------
    NotFound: there is none with this id. Tampered: its record cannot be read.
    """
    folder = desk.layout.runs / identifier
    try:
        record = json.loads((folder / _RECORD).read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"no training run {identifier} in {desk.layout.runs}", hint="assay train RECIPE"
        ) from None
    except ValueError:
        record = None
    # Not only for accidents: a run moved under another's name would vouch for the wrong model.
    if (
        not isinstance(record, dict)
        or record.get("id") != identifier
        or not record.keys() >= _PARTS
        or not isinstance(record["recipe"], dict)
    ):
        raise Tampered(
            f"{folder / _RECORD} is not the record of run {identifier}",
            hint=f"remove {folder} and train again",
        )
    return TrainingRun(identifier, record, folder, reused=reused, seconds=seconds)


def sealed_run(desk: Desk, metadata: ModelMetadata) -> TrainingRun:
    """The run that a version was registered from.

    Raises
    ------
    NotFound: it is not recorded here. Tampered: it is not the run that the version's signature
        vouches for.
    """
    run = load_run(desk, metadata.parent_run or "")
    if run.seal != metadata.config.get("run_seal"):
        raise Tampered(
            f"training run {run.id} is not what {metadata.name} {metadata.version} was registered "
            "from: its record has changed since",
            hint=f"remove {run.folder}, train again and register the new version",
        )
    return run


def register_run(desk: Desk, run: TrainingRun, *, author: str) -> Registration:
    """Register a run's model as the next version of its line; known content is not added again."""
    recipe = desk.recipe(run.record["recipe"]["name"])
    description = run.record["training_set"]
    baseline = isinstance(recipe.estimator, Baseline)
    registry = desk.registry
    # The files as they were when the model was trained; runs of earlier releases do not say.
    git = run.record["git"] if "git" in run.record else _git(desk)
    metadata = ModelMetadata(
        name=recipe.model,
        version=str(registry.next_version(recipe.model)),
        kind=recipe.kind,
        created_at=desk.clock.now(),
        author=author,
        dataset_version_ids=dict(description["snapshots"].items()),
        snapshot_ids=description["snapshots"],
        manifest_hash=description["manifest_hash"],
        git_commit=None if git is None else GitState.from_json(git).revision,
        config={**run.record["config"], **_asked(description), "run_seal": run.seal},
        environment=capture_environment() | ({} if git is None else {"git": git}),
        metrics=run.record["metrics"],
        parent_run=run.id,
        training_set_digest=description["digest"],
        training_set_rows=description["rows"],
        training_set_known_at=run.known_at,
        seeds=recipe.seeds,
        baseline=baseline,
        policy="baseline" if baseline else None,
    )
    files = {
        name: run.read(name) for name in ("model.onnx", "parity.json", "bench.json", "golden.json")
    }
    files[run.record["model_file"]] = run.read(run.record["model_file"])
    files["CHANGES.md"] = _changes(recipe, metadata).encode()
    return registry.register(Candidate(metadata, run.schema, files), reason=recipe.description)


def _git(desk: Desk) -> dict[str, Any] | None:
    state = git_state(desk.layout.root)
    return None if state is None else state.to_json()


def _asked(description: Mapping[str, Any]) -> dict[str, Any]:
    """Which request view the model's features are of, for its metadata; nothing where none."""
    asked = description["query"].get("request")
    return {} if asked is None else {"request_view": asked}


def _write_run(
    folder: Path, record: dict[str, Any], result: TrainingResult, training_set: TrainingSet
) -> None:
    predictions = io.BytesIO()
    result.predictions.write_parquet(predictions, compression="zstd")
    files = {
        "model.onnx": result.onnx_bytes,
        result.model_file: result.model_bytes,
        "parity.json": canonical_bytes(result.parity),
        "bench.json": canonical_bytes(result.bench),
        "golden.json": canonical_bytes(_golden(result, training_set)),
        "predictions.parquet": predictions.getvalue(),
    }
    if result.paths is not None:
        paths = io.BytesIO()
        result.paths.write_parquet(paths, compression="zstd")
        files[_PATHS] = paths.getvalue()
    for name, data in files.items():
        write_atomic(folder / name, data)
    hashes = {name: sha256_hex(data) for name, data in files.items()}
    # Last: a run without its record does not exist.
    write_atomic(folder / _RECORD, canonical_bytes({**record, "files": hashes}) + b"\n")


def _golden(result: TrainingResult, training_set: TrainingSet) -> dict[str, Any]:
    """What activation checks, from the rows that the model was trained on."""
    names = list(result.schema.names)
    inputs = training_set.frame.select(names).to_numpy().astype(np.float32)
    return golden_rows(result.onnx_bytes, result.schema, inputs, result.probes)


def _changes(recipe: Recipe, metadata: ModelMetadata) -> str:
    return (
        f"# {metadata.name} {metadata.version}\n\n{recipe.description}\n\n"
        f"Trained by recipe `{recipe.name}` in run `{metadata.parent_run}` on "
        f"{metadata.training_set_rows:,} rows, of facts known by "
        f"{render(metadata.training_set_known_at or 0)}.\n"
    )
