"""What a measurement was taken from, so that somebody else can take it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.domain.instants import Instant, parse, render


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Everything that a measurement depends on; equal provenance means equal numbers.

    Attributes
    ----------
    measured_at: when it was taken, ns UTC. The only field that a second measurement changes.
    convention_id: which definition was followed, such as ``rank_ic/1``: two numbers compare only
        under one id. The sentence in ``Evidence.convention`` says it in words.
    model_digest: SHA-256 of the version that was measured.
    run: the training run whose out-of-sample record was used; None where none was.
    inputs_digest: SHA-256 over the identities of everything that was read.
    snapshots: table -> snapshot id of the data. manifest: hash of the feature manifests.
    seeds: every seed of every random draw, in the order of use.
    code: package -> version of what computed it; ``assay.source`` is a digest of our own files.
    commit: revision of the desk's files, None outside of a repository.
    trials: ids of the trials of the line that were counted, the measured one among them.
    champion: version that it was compared with, None for none. champion_digest: its SHA-256.
    replayed: whether the facts came from a replay of the past and not from live operation.
    """

    measured_at: Instant
    convention_id: str
    model_digest: str
    run: str | None = None
    inputs_digest: str | None = None
    snapshots: Mapping[str, str] = field(default_factory=dict)
    manifest: str | None = None
    seeds: tuple[int, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    trials: tuple[str, ...] = ()
    champion: str | None = None
    champion_digest: str | None = None
    replayed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "snapshots", dict(self.snapshots))
        object.__setattr__(self, "code", dict(self.code))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        object.__setattr__(self, "trials", tuple(self.trials))

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, the time in ISO 8601."""
        return {
            "measured_at": render(self.measured_at),
            "convention_id": self.convention_id,
            "model_digest": self.model_digest,
            "run": self.run,
            "inputs_digest": self.inputs_digest,
            "snapshots": dict(self.snapshots),
            "manifest": self.manifest,
            "seeds": list(self.seeds),
            "code": dict(self.code),
            "commit": self.commit,
            "trials": list(self.trials),
            "champion": self.champion,
            "champion_digest": self.champion_digest,
            "replayed": self.replayed,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Provenance:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**document, "measured_at": parse(document["measured_at"])})
