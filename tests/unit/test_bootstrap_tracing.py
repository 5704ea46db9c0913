"""Where spans go is what the setting says, or else what OpenTelemetry's variables do."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from assay.bootstrap.backends import tracing_of
from assay.domain.clock import SystemClock
from assay.errors import ConfigurationError, Unavailable

HERE = "http://127.0.0.1:9"
ENDPOINT, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


def tracing(chosen: str | None, **environment: str) -> Any:
    return tracing_of(chosen, environment, SystemClock(), "1")


@pytest.mark.parametrize(
    ("chosen", "environment"),
    [
        (None, {}),
        (None, {ENDPOINT: ""}),
        (None, {ENDPOINT: HERE, "OTEL_SDK_DISABLED": "true"}),
        (None, {ENDPOINT: HERE, "OTEL_TRACES_EXPORTER": "none"}),
        ("none", {ENDPOINT: HERE}),
    ],
)
def test_there_is_none_unless_somebody_wants_it(
    chosen: str | None, environment: Mapping[str, str]
) -> None:
    assert tracing(chosen, **environment) is None


@pytest.mark.parametrize(
    ("chosen", "environment"),
    [(HERE, {}), (None, {ENDPOINT: HERE}), (None, {TRACES: HERE + "/v1/traces"})],
)
def test_the_setting_or_a_variable_asks_for_it(
    chosen: str | None, environment: Mapping[str, str]
) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="pip install assay[otel]")
    made = tracing(chosen, **environment)
    assert made is not None
    made.close()


def test_another_protocol_is_refused_with_what_is_spoken() -> None:
    variables = {ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_PROTOCOL is grpc"):
        tracing(None, **variables)
    assert tracing("none", **variables) is None


@pytest.fixture
def without_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = builtins.__import__

    def missing(name: str, *given: Any, **named: Any) -> Any:
        if name == "assay.adapters.otel.tracing":
            raise ModuleNotFoundError(name="opentelemetry.sdk")
        return before(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("without_it")
def test_without_the_package_a_setting_is_refused_and_a_variable_only_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Unavailable, match="OpenTelemetry SDK") as refused:
        tracing(HERE)
    assert "assay[otel]" in str(refused.value.hint)
    with caplog.at_level(logging.WARNING):
        assert tracing(None, **{ENDPOINT: HERE}) is None
    assert "pip install 'assay[otel]'" in caplog.text
