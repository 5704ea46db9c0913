"""The replay: deliveries in, online features, answers of a real server, and the proof of both."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from assay.domain.canonical import canonical_bytes, content_hash
from assay.domain.instants import Instant, render
from assay.errors import NotFound
from assay.features import FeatureView, Manifest, ManifestSet
from assay.features.offline.arrivals import as_known_history
from assay.features.online import OnlineFeed, OnlineStore, batches_of
from assay.orchestration.desk import Desk
from assay.orchestration.feeding import FEED
from assay.orchestration.live.arrivals import Recording, ReplayClock
from assay.orchestration.live.delivery import VERSIONS, deliver, open_feed
from assay.orchestration.live.proof import Answer, prove_features, prove_predictions
from assay.orchestration.live.server import Client, ServerProcess
from assay.orchestration.live.withdrawal import Withdrawal, broken_version, watch
from assay.orchestration.people import People
from assay.orchestration.progress import Progress
from assay.registry import capture_environment
from assay.registry.keyring import SERVICE
from assay.serving import OnnxModel
from assay.storage.files import write_atomic

_RECORD: Final = "replay.json"


@dataclass(frozen=True, slots=True)
class LiveReplay:
    """What one replay did and found. ``recorded`` says that an earlier run did it.

    ``document`` holds the facts delivered, the two proofs, requests and their times, and the
    withdrawal, as a JSON object.
    """

    document: dict[str, Any]
    recorded: bool

    @property
    def holds(self) -> bool:
        """Whether every value and every prediction that was served is equal to the offline one."""
        return bool(
            self.document["features"]["holds"]
            and self.document["predictions"]["holds"]
            and not self.document["requests"]["errors"]
        )

    def to_json(self) -> dict[str, Any]:
        return {**self.document, "recorded": self.recorded, "holds": self.holds}


def replay_live(
    desk: Desk,
    people: People,
    progress: Progress,
    *,
    view_name: str,
    model: str,
    recording: Recording,
    environment: Mapping[str, str],
) -> LiveReplay:
    """Replay the last sessions of the desk's source through the live side, and prove them.

    Everything that the replay stores lies in ``artifacts/replay``, or on a server in a namespace of
    its own; the desk's lake and store do not see the two facts that the replay makes up.

    Parameters
    ----------
    model: the line whose champion is served.
    recording: what arrives, from :func:`record_last_sessions`.
    environment: what the server process gets as its environment; settings of the replay are added.

    Raises
    ------
    NotFound: nothing is in production.
    """
    view = desk.view(view_name)
    champion = desk.registry.current(model)
    if champion is None:
        raise NotFound(f"no version of {model} is in production", hint="assay models list")
    key = _key(view, recording, champion.digest, desk.stores.kind)
    folder = desk.layout.root / "artifacts" / "replay"
    earlier = _earlier(folder, key)
    if earlier is not None:
        progress.event("this replay is recorded: nothing is served again")
        return LiveReplay(earlier, recorded=True)
    shutil.rmtree(folder, ignore_errors=True)
    stage = _Stage(desk, people, progress, view, model, environment, recording, folder)
    document = {"key": key, **stage.run()}
    write_atomic(folder / _RECORD, canonical_bytes(document) + b"\n")
    return LiveReplay(document, recorded=False)


def _key(view: FeatureView, recording: Recording, champion: str, store: str) -> str:
    facts = [
        [fact.entity, fact.event_time, fact.known_time, dict(fact.payload)]
        for delivery in (recording.history, *recording.deliveries)
        for fact in delivery.facts
    ]
    return content_hash(
        {
            "manifest": Manifest.of(view).hash,
            "facts": content_hash(facts),
            "champion": champion,
            "store": store,
            "packages": capture_environment()["packages"],
        }
    )


def _earlier(folder: Path, key: str) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads((folder / _RECORD).read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return document if document.get("key") == key else None


class _Stage:
    """One replay: its lake, feed, store, server and what they said."""

    def __init__(
        self,
        desk: Desk,
        people: People,
        progress: Progress,
        view: FeatureView,
        model: str,
        environment: Mapping[str, str],
        recording: Recording,
        folder: Path,
    ) -> None:
        self.people, self.progress, self.view, self.model = people, progress, view, model
        self.environment, self.recording, self.folder = environment, recording, folder
        self.desk = desk
        self.clock = ReplayClock(recording.history.arrives_at)
        layout = replace(
            desk.layout, lake=folder / "lake", namespace=f"{desk.layout.namespace}.replay"
        )
        self.replayed = Desk(
            layout, desk.keyring, self.clock, desk.stores,
            ledger=desk.ledger, artifacts=desk.artifacts,
        )  # fmt: skip
        self.answers: list[Answer] = []
        self.manifest = ManifestSet.of([view]).hash
        self.members: dict[str, bool] = {}
        self.trained_by: Instant | None = None

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        delivered = deliver(
            self.replayed.lake, self.recording, self.clock, self.desk.sources, self.view
        )
        self.progress.event(
            f"{delivered.facts['history']:,} facts of history; {len(self.recording.deliveries)} "
            "deliveries arrived one by one"
        )
        arrivals = delivered.arrivals
        self.progress.event(f"warming up the online driver on {arrivals.height:,} arrivals")
        stores = self.replayed.stores
        stores.forget(self.replayed)  # rows of an earlier replay
        store = stores.open(self.replayed, max_versions=VERSIONS)
        feed = open_feed(self.view, store, self.folder / "feed.checkpoint")
        is_live = pl.col("known_time") >= self.recording.live_from
        past, live = arrivals.filter(~is_live), arrivals.filter(is_live)
        feed.warm_up(past)
        models = {self._label(version): loaded for version, loaded in self._champion().items()}
        withdrawal = self._serve(feed, store, live, models)
        self.progress.event("proving every value and every prediction that was served")
        offline = as_known_history(self.view, arrivals, **FEED)
        features = prove_features(self.view, store, offline, since=self.recording.live_from)
        predictions = prove_predictions(self.view, offline, self.answers, models)
        store.close()
        return {
            "model": self.model,
            "versions": sorted({answer.version for answer in self.answers}),
            "manifest": self.manifest,
            "snapshot": delivered.snapshot,
            "sessions": len(self.recording.deliveries),
            "trained_by": None if self.trained_by is None else render(self.trained_by),
            "held_back": self.trained_by is not None and self.trained_by < self.recording.live_from,
            "live_from": render(self.recording.live_from),
            "live_to": render(self.recording.deliveries[-1].arrives_at),
            "facts": delivered.facts,
            "made_by_demo": {"revision": self.recording.revision, "late": self.recording.late},
            "features": features.to_json(),
            "predictions": predictions.to_json(),
            "requests": self._requests,
            "withdrawal": None if withdrawal is None else withdrawal.to_json(),
            "seconds": time.monotonic() - started,
        }

    def _champion(self) -> dict[str, OnnxModel]:
        record = self.desk.registry.resolve(self.model)
        opened = self.desk.registry.open_version(self.model, record.version)
        self.trained_by = opened.metadata.training_set_known_at
        return {record.version: OnnxModel.from_bytes(opened.onnx, opened.schema)}

    @staticmethod
    def _label(version: str) -> str:
        return f"v{version}"

    def _serve(
        self,
        feed: OnlineFeed,
        store: OnlineStore,
        live: pl.DataFrame,
        models: dict[str, OnnxModel],
    ) -> Withdrawal | None:
        batches = self._batches(feed, live)
        first = next(batches)  # the store must hold rows before the server looks for them
        environment = {
            **self.environment,
            "ASSAY_LAKE__ROOT": str(self.replayed.layout.lake),
            "ASSAY_FEATURES__ONLINE_NAMESPACE": json.dumps(self.replayed.layout.namespace),
            "ASSAY_SERVING__CHAMPION": self.model,
            # The replay's facts are not the desk's, and so are its predictions.
            "ASSAY_SERVING__PREDICTIONS": json.dumps(str(self.folder / "predictions.jsonl")),
            # Where the desk's own server is asked, which may be running.
            "ASSAY_SERVING__UNIX": "null",
            "ASSAY_SERVING__GRPC_PORT": "null",
            "ASSAY_SERVING__TRACES": "none",
        }
        if self.desk.keyring.can_sign(self.people.operator, SERVICE):
            environment["ASSAY_SERVING__IDENTITY"] = json.dumps(self.people.operator)
        self.progress.event("starting a server process")
        with ServerProcess(
            self.desk.layout.root, environment, self.folder / "server.log"
        ) as server:
            client = Client(server.url)
            self.progress.event(f"asking {server.url} for predictions")
            self._ask(client, first)
            bad_at = len(self.recording.deliveries) * 2 // 3
            withdrawal = None
            moments = [first]
            for number, moment in enumerate(batches, start=1):
                moments.append(moment)
                if number == bad_at:
                    self.progress.event("forcing a version with swapped columns live")
                    broken = broken_version(self.desk, self.people, self.model, models)
                    withdrawal = watch(
                        self.desk,
                        self.people,
                        broken,
                        ask=lambda at: self._ask(client, at),
                        moments=moments[::-1],
                        champion=models,
                        rows=lambda names, at: store.read(self.view.name, names, at),
                        view=self.view,
                        progress=self.progress,
                    )
                self._ask(client, moment)
            client.close()
        times = np.array(client.milliseconds)
        self._requests = {
            "requests": client.requests,
            "errors": client.errors[:10],
            "error_count": len(client.errors),
            "p50_ms": float(np.quantile(times, 0.5)),
            "p99_ms": float(np.quantile(times, 0.99)),
        }
        return withdrawal

    def _batches(self, feed: OnlineFeed, live: pl.DataFrame) -> Iterator[Instant]:
        """Feed the live arrivals batch by batch; the moment of each, once its rows are stored."""
        column = self.view.columns.index("in_universe")
        for batch in batches_of(self.view, live):
            for arrival in batch:
                self.members[arrival.entity] = bool(arrival.values[column])
            feed.take(batch)
            yield batch[-1].known_time

    def _ask(self, client: Client, moment: Instant) -> list[Answer]:
        """Ask for every member of the universe at one moment."""
        given: list[Answer] = []
        for instrument in sorted(name for name, is_in in self.members.items() if is_in):
            body = {"instrument": instrument, "timestamp": render(moment)}
            answer = client.predict(body, self.manifest)
            if answer is not None:
                given.append(
                    Answer(
                        instrument=instrument,
                        moment=moment,
                        prediction=answer["prediction"],
                        version=answer["model_version"],
                        features=answer["features_used"],
                    )
                )
        self.answers += given
        return given
