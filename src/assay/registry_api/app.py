"""The application: routes, the form of refusals, and the OpenAPI document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from assay.errors import AssayError, Unavailable
from assay.orchestration.desk import Desk
from assay.registry_api.changes import Changes
from assay.registry_api.comparisons import Comparisons
from assay.registry_api.documents import Health
from assay.registry_api.gate import OPEN_PATHS, Gate, record_refusal
from assay.registry_api.kept import KeptRegistry
from assay.registry_api.problems import Problem, of_http, of_validation, problem
from assay.registry_api.reads import Reads, Route, encoded
from assay.registry_api.reports import Reports
from assay.registry_api.uploads import MEDIA_TYPE

_HEADERS = {
    "GET": (("If-None-Match", "Tags of what the caller has; 304 when it is the same."),),
    "POST": (
        ("Idempotency-Key", "Sent again with the same key, a request gets the same answer."),
        ("If-Match", "The tag of GET /api/v1/models/{name}; 412 when it has changed."),
    ),
}


def make_app(desk: Desk, *, version: str, pairs: Path | None = None) -> Gate:
    """The registry of a desk as an ASGI application.

    Parameters
    ----------
    version: of the package.
    pairs: the log of what challengers predict; None for none. It need not be on this machine.
    """
    app = FastAPI(
        title="Assay registry",
        version=version,
        description="Immutable signed versions, their approvals, and what was live when.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    kept = KeptRegistry(desk)
    app.state.open_registry = kept.opened

    def health() -> Response:
        """Whether the registry can be opened."""
        try:
            kept.opened()
        except OSError as error:
            raise Unavailable(f"the registry cannot be opened: {error.strerror}") from error
        return Response(encoded({"status": "ok", "version": version}), 200,
                        media_type="application/json")  # fmt: skip

    routes = (
        Route("GET", "/health", health, "The server answers and the registry opens", Health),
        *Reads(desk, pairs).routes(),
        *Comparisons(desk).routes(),
        *Reports(desk.layout.root / "reports").routes(),
        *Changes(desk, kept.opened).routes(),
    )
    # Registered by how much of the path is fixed: /models/x/current before /models/x/{version}.
    for one in sorted(routes, key=lambda one: one.path.count("{")):
        _add(app, one)
    _explain(app, desk)
    made = app.openapi
    app.openapi = lambda: complete(made())  # type: ignore[method-assign]
    return Gate(app, desk)


def _add(app: FastAPI, route: Route) -> None:
    form: dict[str, Any] = {"description": route.summary}
    if route.answer is not None:
        form["model"] = route.answer
    app.add_api_route(
        route.path,
        route.function,
        methods=[route.method],
        summary=route.summary,
        response_model=None,
        response_class=HTMLResponse if route.answer is None else JSONResponse,
        responses={200: form},
    )


def _explain(app: FastAPI, desk: Desk) -> None:
    async def refuse(request: Request, error: AssayError) -> Response:
        await run_sync(record_refusal, desk, request.scope, error)
        return problem(error, request.state.request_id)

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, AssayError)
        return await refuse(request, error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return await refuse(request, of_validation(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answered = await refuse(request, of_http(request, error))
        if error.headers:
            answered.headers.update(error.headers)
        return answered

    async def on_system(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        # A full or read-only disk: in words, and nothing of the path.
        why = Unavailable(f"the registry's machine refused: {error.strerror or 'unknown'}")
        return problem(why, request.state.request_id)

    app.add_exception_handler(AssayError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(OSError, on_system)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with refusals, headers, the archive's media type and the token."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    refused = {
        "description": "A problem document (RFC 9457)",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            responses.pop("422", None)
            responses |= {"4XX": refused, "503": refused}
            if path not in OPEN_PATHS:
                operation["security"] = [{"token": []}]
                _document_headers(method.upper(), operation)
            if method == "post" and path.endswith("/versions"):
                responses["201"] = responses["200"]
                content = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
                operation["requestBody"] = {"required": True, "content": content}
    return document


def _document_headers(method: str, operation: dict[str, Any]) -> None:
    for name, meaning in _HEADERS[method]:
        operation.setdefault("parameters", []).append(
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": meaning,
                "schema": {"type": "string", "maxLength": 128},
            }
        )
    if method == "GET":
        operation["responses"]["304"] = {"description": "The same as what the caller has"}
