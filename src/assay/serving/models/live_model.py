"""What is live in this process: immutable values, exchanged whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

from assay.domain.instants import Instant, render
from assay.domain.versions import InputSchema
from assay.errors import ContractViolation, did_you_mean
from assay.serving.models.canary import position
from assay.serving.models.onnx_model import OnnxModel
from assay.serving.rejections import UNKNOWN_MODEL, Rejected

CHAMPION = "champion"
"""The alias of the desk's default model, and of a model's version in production."""


@dataclass(frozen=True, slots=True)
class LiveModel:
    """One version, loaded and exercised: everything a request needs to know about it.

    Attributes
    ----------
    name, version, digest: which bytes answer. kind: the registry's kind of model.
    manifest: hash of the feature manifest whose columns the model reads; None for none.
    model: the loaded session with its input schema.
    loaded_at: when this process loaded it.
    label: the version as answers carry it, such as ``v1.2.0``.
    """

    name: str
    version: str
    digest: str
    kind: str
    manifest: str | None
    model: OnnxModel = field(repr=False)
    loaded_at: Instant
    label: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", f"v{self.version}")

    @property
    def schema(self) -> InputSchema:
        """Names and order of the input columns."""
        return self.model.schema

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.label,
            "digest": self.digest,
            "kind": self.kind,
            "manifest": self.manifest,
            "task": self.model.task,
            "schema": self.schema.to_json(),
            "loaded_at": render(self.loaded_at),
        }


@dataclass(frozen=True, slots=True, eq=False)
class CanaryRoute:
    """A challenger that answers in the champion's place for a share of the entities.

    Attributes
    ----------
    model: the challenger, loaded and exercised.
    share: of entities, in (0, 1). salt: another one chooses other entities.
    revision: the entry of the registry's log that this analysis began with.

    Raises
    ------
    ContractViolation: a share that is none.
    """

    model: LiveModel
    share: float
    salt: str
    revision: int

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise ContractViolation(f"canary share {self.share}: expected between 0 and 1")

    def takes(self, entity: str) -> bool:
        """Whether the canary answers for an entity."""
        return position(self.salt, entity) < self.share


class ColumnsOfCanary(NamedTuple):
    """A canary, and where its columns stand among those of the model in whose place it answers."""

    model: LiveModel
    places: list[int]


@dataclass(frozen=True, slots=True)
class LiveModels:
    """All live models by name, and which of them is meant by ``champion``.

    ``champion`` is the name of the desk's default model, or None when there is no default;
    ``canaries`` answer for some entities in the place of the model of their name.
    """

    models: Mapping[str, LiveModel]
    champion: str | None
    canaries: Mapping[str, CanaryRoute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", MappingProxyType(dict(self.models)))
        object.__setattr__(self, "canaries", MappingProxyType(dict(self.canaries)))

    def canary_for(self, model: LiveModel, reference: str, entity: str) -> CanaryRoute | None:
        """The canary that answers for an entity; None where the model itself does.

        Whoever asks for a version by its number gets that version.
        """
        route = self.canaries.get(model.name)
        if route is None or "/" in reference or not route.takes(entity):
            return None
        return route

    def canary_of_columns(
        self, model: LiveModel, reference: str, entity: str
    ) -> ColumnsOfCanary | None:
        """The canary that answers for an entity whose features the caller brings; None where there
        is none, or where it reads others, which nobody brought.
        """
        if self.models.get(model.name) is not model:
            return None  # exchanged since it was chosen: the canary is another one's
        route = self.canary_for(model, reference, entity)
        if route is None:
            return None
        place = {name: number for number, name in enumerate(model.schema.names)}
        places = [place.get(name, -1) for name in route.model.schema.names]
        return None if -1 in places else ColumnsOfCanary(route.model, places)

    def find(self, reference: str) -> LiveModel:
        """The model that ``champion``, ``name``, ``name@champion`` or ``name/1.2.0`` means.

        Raises
        ------
        Rejected: nothing live has this name, alias or version.
        """
        found = self.models.get(reference)
        if found is not None:
            return found
        if reference == CHAMPION:
            return self._default()
        name, slash, version = reference.partition("/")
        name, at, alias = (name, "", "") if slash else reference.partition("@")
        live = self.models.get(name)
        if live is None:
            raise Rejected(
                UNKNOWN_MODEL,
                f"no model {reference!r} is live here",
                found=reference,
                expected=[CHAMPION, *sorted(self.models)] if self.champion else sorted(self.models),
                hint=did_you_mean(name, self.models) if self.models else None,
            )
        if slash and version.removeprefix("v") != live.version:
            raise Rejected(
                UNKNOWN_MODEL,
                f"{name} v{live.version} is live here, not {version}",
                found=reference,
                expected=f"{name}/v{live.version}",
            )
        if at and alias != CHAMPION:
            raise Rejected(
                UNKNOWN_MODEL,
                f"no alias {alias!r} of {name}",
                found=reference,
                expected=f"{name}@{CHAMPION}",
            )
        return live

    def _default(self) -> LiveModel:
        if self.champion is not None and self.champion in self.models:
            return self.models[self.champion]
        what = (
            "no default model is set" if self.champion is None else f"{self.champion} is not live"
        )
        raise Rejected(
            UNKNOWN_MODEL,
            f"{what}, so {CHAMPION!r} means nothing here",
            found=CHAMPION,
            expected=sorted(self.models),
            hint="name a model, or set serving.champion in assay.yaml",
        )


class LiveSource(Protocol):
    """Where live models come from: the side of the registry that serving sees.

    ``delivery`` implements it; serving never reads a registry by itself.
    """

    def pointer(self) -> object:
        """Compares unequal after every change of what is live, also after one there and one back;
        asking costs microseconds.
        """
        ...

    def wanted(self) -> Mapping[str, str]:
        """Name -> digest of every version that should be live now.

        Raises
        ------
        AssayError: it cannot be known now.
        """
        ...

    def load(self, name: str) -> LiveModel:
        """The version of a model that should be live, verified, loaded and exercised.

        Raises
        ------
        AssayError: it does not verify, load or predict.
        """
        ...


@dataclass(frozen=True, slots=True)
class Deployed:
    """A version that should run beside the one in production.

    Attributes
    ----------
    revision: the entry of the registry's log that it is measured from.
    share, salt: of a canary; a share of 0 is a shadow, which answers nobody.
    """

    name: str
    version: str
    digest: str
    revision: int
    share: float = 0.0
    salt: str = ""


@runtime_checkable
class ChallengerSource(Protocol):
    """A source that also knows what should run beside what is live."""

    def deployed(self) -> tuple[Deployed, ...]:
        """Every challenger that should run now.

        Raises
        ------
        AssayError: it cannot be known now.
        """
        ...

    def load_version(self, name: str, version: str) -> LiveModel:
        """A challenger, verified, loaded and exercised.

        Raises
        ------
        AssayError: it does not verify, load or predict.
        """
        ...
