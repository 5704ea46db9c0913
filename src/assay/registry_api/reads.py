"""Questions about models: pages of them, one of them, its life, and what was live when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import fastapi
from fastapi import Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from assay.access import Caller, Scope
from assay.delivery.approvals import count_approvals
from assay.delivery.pair_history import count_pairs
from assay.domain.instants import parse, render
from assay.domain.versions import SemanticVersion, Stage
from assay.errors import ContractViolation, NotFound
from assay.orchestration.desk import Desk
from assay.orchestration.log_doubts import LogDoubts
from assay.registry import EventType, ModelRegistry, ModelSummary, VersionRecord
from assay.registry.deployments import deployments_of
from assay.registry_api.documents import (
    ApprovalsDocument,
    ChallengersDocument,
    CurrentDocument,
    EntryDocument,
    EvidenceList,
    LiveDocument,
    LogHeadDocument,
    Me,
    ModelDocument,
    Page,
    RecordedGates,
    VersionDocument,
    WholeVersion,
)
from assay.registry_api.problems import Unacceptable
from assay.serving.challengers.pair_log import PairSums

NAME = r"^[a-z][a-z0-9_]{0,63}$"
VERSION = r"^v?(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$"
NamePart: TypeAlias = Annotated[str, fastapi.Path(pattern=NAME, description="The model's name.")]
VersionPart: TypeAlias = Annotated[str, fastapi.Path(pattern=VERSION, description="Such as 1.2.0.")]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=500, description="Items of one page at most.")]
Text: TypeAlias = Annotated[str | None, Query(max_length=100)]


class Route(NamedTuple):
    """One path: how it is asked, who answers, a line about it, and the form of the answer.

    ``answer`` is None where the answer is a page.
    """

    method: str
    path: str
    function: Callable[..., Any]
    summary: str
    answer: type[BaseModel] | None


def caller_of(request: Request) -> Caller:
    """Whoever the gate recognised."""
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


def entity_tag(document: Any) -> str:
    """The strong entity tag of a document: it changes with every byte of it."""
    return f'"{hashlib.sha256(encoded(document)).hexdigest()[:32]}"'


def encoded(document: Any) -> bytes:
    """A document as JSON."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


def answer(request: Request, document: Any) -> Response:
    """A document with its tag; 304 for somebody who has it already."""
    tag = entity_tag(document)
    if tag in tags_of(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(encoded(document), media_type="application/json", headers={"ETag": tag})


def check_unchanged(request: Request, document: Any) -> None:
    """Refuse a change by somebody who has seen another state than today's (``If-Match``)."""
    given = request.headers.get("if-match")
    if given is not None and given.strip() != "*" and entity_tag(document) not in tags_of(given):
        raise Unacceptable(
            412, "changed_meanwhile", "what If-Match names is not the state of today",
            hint="read it again, and decide again",
        )  # fmt: skip


def tags_of(header: str) -> set[str]:
    """The entity tags that a header names."""
    return {part.strip().removeprefix("W/") for part in header.split(",")}


def page(items: Sequence[Any], limit: int, key: Callable[[Any], Any]) -> dict[str, Any]:
    """The first items and where the next page begins; ``next`` is null on the last one."""
    shown = list(items[:limit])
    return {"items": shown, "next": key(shown[-1]) if len(items) > limit else None}


def version_document(registry: ModelRegistry, record: VersionRecord) -> dict[str, Any]:
    """One version as the catalogue knows it, with its latest verdict."""
    report = registry.gate_record(record.name, record.version)
    return {**record.to_json(), "gates": None if report is None else str(report.outcome)}


def model_document(registry: ModelRegistry, name: str) -> dict[str, Any]:
    """One model: how many versions it has, the newest, and the one in production.

    Raises
    ------
    NotFound: no such model.
    """
    registry.check_model(name)
    (found,) = registry.models(name=name)
    return _summary(found)


def _summary(found: ModelSummary) -> dict[str, Any]:
    return {
        "name": found.name,
        "kind": found.kind,
        "versions": found.versions,
        "latest": found.latest,
        "current": None if found.current is None else found.current.to_json(),
    }


class Reads:
    """The routes that change nothing.

    Parameters
    ----------
    pairs: the log of what challengers predict, where it is on this machine.
    """

    def __init__(self, desk: Desk, pairs: Path | None = None) -> None:
        self._desk = desk
        self._pairs = None if pairs is None else PairSums(pairs)
        self._doubts = LogDoubts(desk)

    def routes(self) -> tuple[Route, ...]:
        """Method, path, function, and one line about each; fixed paths before variable ones."""
        model, one = "/api/v1/models/{name}", "/api/v1/models/{name}/{version}"
        return (
            Route("GET", "/api/v1/me", self.me, "Who the token belongs to, and what it allows", Me),
            Route("GET", "/api/v1/log/head", self.log_head, "How far the registry's log has come",
                  LogHeadDocument),
            Route("GET", "/api/v1/models", self.models, "Models, with what is in production",
                  Page[ModelDocument]),
            Route("GET", model, self.model, "One model", ModelDocument),
            Route("GET", f"{model}/current", self.current, "The version in production",
                  CurrentDocument),
            Route("GET", f"{model}/challengers", self.challengers,
                  "What runs beside the version in production", ChallengersDocument),
            Route("GET", f"{model}/history", self.history, "What the log says about it",
                  Page[EntryDocument]),
            Route("GET", f"{model}/live", self.live, "What was in production at a moment",
                  LiveDocument),
            Route("GET", f"{model}/versions", self.versions, "Its versions", Page[VersionDocument]),
            Route("GET", one, self.version,
                  "One version, whole: metadata, schema, evidence, verdicts", WholeVersion),
            Route("GET", f"{one}/gates", self.gates, "The latest verdicts", RecordedGates),
            Route("GET", f"{one}/evidence", self.evidence, "What was measured", EvidenceList),
            Route("GET", f"{one}/approvals", self.approvals,
                  "Who approved, and whose yes counts now", ApprovalsDocument),
        )  # fmt: skip

    def me(self, request: Request) -> Response:
        return answer(request, caller_of(request).to_json())

    def log_head(self, request: Request, registry: Registry) -> Response:
        head: dict[str, Any] = {"seq": 0, "hash": "0" * 64, "timestamp": None}
        for entry in registry.latest(1):
            head = {"seq": entry.seq, "hash": entry.hash, "timestamp": render(entry.at)}
        return answer(request, {**head, "doubts": list(self._doubts.about(registry))})

    def models(
        self,
        request: Request,
        registry: Registry,
        *,
        limit: Limit = 100,
        after: Text = None,
        kind: Text = None,
    ) -> Response:
        # One more than is shown says whether there is another page.
        found = registry.models(after=after, kind=kind, limit=limit + 1)
        shown = [_summary(one) for one in found]
        return answer(request, page(shown, limit, lambda item: item["name"]))

    def model(self, request: Request, registry: Registry, name: NamePart) -> Response:
        return answer(request, model_document(registry, name))

    def current(self, request: Request, registry: Registry, name: NamePart) -> Response:
        return answer(request, version_document(registry, registry.resolve(f"{name}@champion")))

    def challengers(self, request: Request, registry: Registry, name: NamePart) -> Response:
        registry.check_model(name)
        return answer(request, self._beside(registry, name))

    def _beside(self, registry: ModelRegistry, name: str) -> dict[str, Any]:
        """What runs beside the champion, each with how much it was seen beside that one."""
        now, champion = deployments_of(registry, name), registry.current(name)
        beside = bool(now.shadows) or now.canary is not None
        days = self._pairs.known_days() if champion and beside and self._pairs else None

        def seen(digest: str, *, since: int = 0, revision: int | None = None) -> Any:
            if days is None or champion is None:
                return None
            return count_pairs(
                days, model=name, challenger=digest, champion=champion.digest, since=since,
                revision=revision,
            ).to_json()  # fmt: skip

        canary = now.canary
        return {
            **now.to_json(),
            "shadows": [
                {**one.to_json(), "seen": seen(one.digest, since=one.since)}
                for one in now.shadows.values()
            ],
            "canary": None if canary is None else {
                **canary.to_json(), "seen": seen(canary.digest, revision=canary.revision)
            },
        }  # fmt: skip

    def history(
        self,
        request: Request,
        registry: Registry,
        name: NamePart,
        *,
        limit: Limit = 100,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        type: Annotated[EventType | None, Query()] = None,  # noqa: A002 - the parameter's name
    ) -> Response:
        registry.check_model(name)
        types = () if type is None else (type,)
        entries = registry.history(name, types=types, after=after, limit=limit + 1)
        shown = [entry.to_json() for entry in entries]
        return answer(request, page(shown, limit, lambda item: item["seq"]))

    def live(
        self,
        request: Request,
        registry: Registry,
        name: NamePart,
        at: Annotated[str | None, Query(max_length=40, description="2026-01-15T10:30Z")] = None,
    ) -> Response:
        registry.check_model(name)
        now = registry.now()
        instant = now if at is None else parse(at)
        if instant > now:
            raise ContractViolation(f"at {at} has not come yet: expected {render(now)} or earlier")
        live = registry.live_at(name, instant).to_json()
        return answer(request, {**live, "doubts": list(self._doubts.about(registry, name))})

    def versions(
        self,
        request: Request,
        registry: Registry,
        name: NamePart,
        *,
        limit: Limit = 100,
        after: Annotated[str | None, Query(pattern=VERSION)] = None,
        stage: Annotated[Stage | None, Query()] = None,
        author: Text = None,
    ) -> Response:
        registry.check_model(name)
        # Of a version that no longer is, the number still says where the next page begins.
        start = None if after is None else SemanticVersion.parse(after)
        found = registry.page(name, after=start, stage=stage, author=author, limit=limit + 1)
        shown = [record.to_json() for record in found]
        return answer(request, page(shown, limit, lambda item: item["version"]))

    def version(
        self, request: Request, registry: Registry, name: NamePart, version: VersionPart
    ) -> Response:
        return answer(request, registry.show(name, registry.get(name, version).version))

    def gates(
        self, request: Request, registry: Registry, name: NamePart, version: VersionPart
    ) -> Response:
        record = registry.get(name, version)
        report = registry.gate_record(name, record.version)
        if report is None:
            raise NotFound(
                f"{name} {record.version} was judged by no gates",
                hint=f"assay gates check {name} {record.version}",
            )
        return answer(request, {**report.to_json(), "digest": report.digest})

    def evidence(
        self, request: Request, registry: Registry, name: NamePart, version: VersionPart
    ) -> Response:
        record = registry.get(name, version)
        items = [item.to_json() for item in registry.evidence(name, record.version)]
        return answer(request, {"items": items})

    def approvals(
        self, request: Request, registry: Registry, name: NamePart, version: VersionPart
    ) -> Response:
        record = registry.get(name, version)
        report = registry.gate_record(name, record.version)
        entries = [
            {**entry.evidence, "seq": entry.seq}
            for entry in registry.approvals(name, record.version)
        ]
        count = None
        if report is not None:
            count = count_approvals(
                registry,
                name,
                record.version,
                report.digest,
                now=registry.now(),
                access=self._desk.access,
            ).to_json()
        return answer(request, {"items": entries, "count": count})


def _open_for_reading(request: Request) -> ModelRegistry:
    caller_of(request).require(Scope.READ)
    opened = request.app.state.open_registry()
    assert isinstance(opened, ModelRegistry)
    return opened


Registry: TypeAlias = Annotated[ModelRegistry, Depends(_open_for_reading)]
"""The registry, for a caller who may read."""
