"""Whether spans are wanted, by a setting or by the variables that OpenTelemetry documents.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from assay.errors import ConfigurationError

NONE: Final = "none"
_OTLP = "OTEL_EXPORTER_OTLP_"
_SPOKEN: Final = "http/protobuf"


def wants_spans(chosen: str | None, environment: Mapping[str, str]) -> bool:
    """Whether spans are to be sent somewhere.

    Parameters
    ----------
    chosen: the setting: a URL, ``none``, or None for what the environment says.

    Raises
    ------
    ConfigurationError: the environment asks for a protocol that is not spoken here.
    """
    if chosen is not None:
        return chosen != NONE
    if not any(environment.get(_OTLP + what) for what in ("TRACES_ENDPOINT", "ENDPOINT")):
        return False
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    for name in (_OTLP + "TRACES_PROTOCOL", _OTLP + "PROTOCOL"):
        if environment.get(name, _SPOKEN) != _SPOKEN:
            raise ConfigurationError(
                f"{name} is {environment[name]}: expected {_SPOKEN}",
                hint=f"collectors take it on port 4318; serving.traces: {NONE} sends nothing",
            )
    return True
