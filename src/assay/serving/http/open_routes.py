"""What the Open Inference Protocol asks rarely: whether a server and its models are there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi.responses import Response

from assay.serving.formats.wire import encode
from assay.serving.http.open_inference import EXTENSIONS, OpenInference
from assay.serving.prediction.kill_switch import KillSwitch
from assay.serving.prediction.predictor import Predictor

Route = tuple[str, str, Callable[..., Any], str]
"""Method, path, function and summary."""


class OpenRoutes:
    """The protocol's routes beside those of inferences."""

    def __init__(
        self, inference: OpenInference, predictor: Predictor, switch: KillSwitch, *, version: str
    ) -> None:
        self._inference = inference
        self._predictor = predictor
        self._switch = switch
        self._version = version

    @property
    def routes(self) -> tuple[Route, ...]:
        """All of them."""
        model = "/v2/models/{model}"
        version = model + "/versions/{version}"
        return (
            ("GET", "/v2", self.server, "Name and extensions of the server"),
            ("GET", "/v2/health/live", self.live, "The process answers (protocol)"),
            ("GET", "/v2/health/ready", self.ready, "Predictions are answered (protocol)"),
            ("GET", model, self.model, "A model's inputs and outputs"),
            ("GET", model + "/ready", self.model_ready, "A model answers"),
            ("GET", version, self.version, "The same of one version"),
            ("GET", version + "/ready", self.version_ready, "The same of one version"),
        )

    def server(self) -> Response:
        return _json({"name": "assay", "version": self._version, "extensions": list(EXTENSIONS)})

    async def live(self) -> Response:
        return _json({"live": True})

    async def ready(self) -> Response:
        killed = await asyncio.to_thread(self._switch.observe)
        ready = killed is None and bool(self._predictor.live.models)
        return _json({"ready": ready}, 200 if ready else 503)

    def model(self, model: str) -> Response:
        found = self._predictor.live.find(model)
        return _json(self._inference.describe_model(found))

    def version(self, model: str, version: str) -> Response:
        found = self._predictor.live.find(f"{model}/{version}")
        return _json(self._inference.describe_model(found))

    def model_ready(self, model: str) -> Response:
        return self._ready(self._predictor.live.find(model).name)

    def version_ready(self, model: str, version: str) -> Response:
        return self._ready(self._predictor.live.find(f"{model}/{version}").name)

    def _ready(self, name: str) -> Response:
        ready = self._switch.observe() is None
        return _json({"name": name, "ready": ready}, 200 if ready else 503)


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(encode(document), status, media_type="application/json")
