"""The description of every route: FastAPI's own, and the plain ones added to it; and as a page.

The page stands alone: no script and no style sheet from elsewhere, because a desk's network may
not reach one and should not have to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

import msgspec

from assay.serving.formats.arrow import ARROW
from assay.serving.formats.tensors import InferAnswer, InferRequest
from assay.serving.formats.wire import (
    BatchAnswer,
    BatchRequest,
    InferenceAnswer,
    InferenceRequest,
    PredictAnswer,
    PredictManyAnswer,
    PredictManyRequest,
    PredictRequest,
    Problem,
)
from assay.serving.http.open_inference import OCTETS
from assay.serving.http.operators import OPERATED
from assay.serving.rejections import KINDS

_INFER = "/v2/models/{model}/infer"
_ROUTES: tuple[tuple[str, str, tuple[Any, ...], tuple[Any, ...]], ...] = (
    ("/predict", "Predict for an instrument, or several, with their stored features",
     (PredictRequest, PredictManyRequest), (PredictAnswer, PredictManyAnswer)),
    ("/inference/predict", "Predict from features", (InferenceRequest,), (InferenceAnswer,)),
    ("/inference/batch", "Predict from rows of features", (BatchRequest,), (BatchAnswer,)),
    (_INFER, "Infer by the Open Inference Protocol", (InferRequest,), (InferAnswer,)),
    ("/v2/models/{model}/versions/{version}/infer", "The same by one version",
     (InferRequest,), (InferAnswer,)),
)  # fmt: skip
_HEADERS = (
    ("X-Assay-Manifest", "Hash of the feature manifest that the request follows."),
    ("X-Request-Id", "Identifies the request in the answer and in the logs."),
    ("X-Deadline-Ms", "How long the answer is waited for, in milliseconds."),
)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
pre{background:#8881;padding:.8rem;overflow:auto}h2{margin-top:2.5rem;font-size:1.1rem}
td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}:root{color-scheme:light dark}
code{font-size:.9em}"""


def complete(document: dict[str, Any], *, tokens: bool) -> dict[str, Any]:
    """FastAPI's OpenAPI document with the prediction routes and the problem documents.

    Parameters
    ----------
    tokens: whether the service asks whoever operates it for one.
    """
    structures = list(
        dict.fromkeys(item for _, _, asked, replied in _ROUTES for item in (*asked, *replied))
    )
    references, schemas = msgspec.json.schema_components(
        [*structures, Problem], ref_template="#/components/schemas/{name}"
    )
    by_structure = dict(zip([*structures, Problem], references, strict=True))
    components = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    components.update(schemas)
    problem = {
        "description": "A problem document (RFC 9457)",
        "content": {"application/problem+json": {"schema": by_structure[Problem]}},
    }
    for path, summary, asked, replied in _ROUTES:
        takes, gives = (
            {"application/json": {"schema": _one_of([by_structure[one] for one in several])}}
            for several in (asked, replied)
        )
        if path == "/inference/batch":
            takes[ARROW.decode()] = gives[ARROW.decode()] = _BINARY
        if path.endswith("/infer"):
            takes[OCTETS.decode()] = gives[OCTETS.decode()] = _BINARY
        document["paths"][path] = {
            "post": {
                "summary": summary,
                "description": "\n\n".join(one.__doc__ or "" for one in asked),
                "operationId": re.sub(r"\W+", "_", path.strip("/")).strip("_"),
                "parameters": [*_parameters(path)],
                "requestBody": {"required": True, "content": takes},
                "responses": {
                    "200": {
                        "description": (replied[0].__doc__ or "").strip(),
                        "content": gives,
                    }
                },
            }
        }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["4XX"] = problem
            operation["responses"]["503"] = problem
            # These say the same either way: whether something is ready.
            if "health" in path or path.endswith("/ready"):
                operation["responses"]["503"] = {
                    "description": "The answer, where predictions are not answered",
                    "content": operation["responses"]["200"]["content"],
                }
            operation["responses"]["504"] = problem
    if tokens:
        _ask_for_tokens(document, problem)
    return document


def _ask_for_tokens(document: dict[str, Any], problem: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    challenge = {"required": True, "schema": {"type": "string", "const": "Bearer"}}
    for path in OPERATED:
        operation = document["paths"][path]["post"]
        operation["security"] = [{"token": []}]
        operation["responses"]["401"] = problem | {"headers": {"WWW-Authenticate": challenge}}
        operation["responses"]["403"] = problem


def _one_of(references: list[Any]) -> Any:
    return references[0] if len(references) == 1 else {"anyOf": references}


def _parameters(path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for name, what in _HEADERS:
        yield {
            "name": name, "in": "header", "required": False, "description": what,
            "schema": {"type": "string"},
        }  # fmt: skip


def docs_page(document: dict[str, Any]) -> str:
    """The document as one page of HTML."""
    info = {key: escape(str(value)) for key, value in document["info"].items()}
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{info['title']}</title><style>{_STYLE}</style>",
        f"<h1>{info['title']} {info['version']}</h1><p>{info.get('description', '')}</p>",
        "<p>For programs: <a href=openapi.json>openapi.json</a>, <a href=metrics>metrics</a>.</p>",
    ]
    schemas = document["components"]["schemas"]
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            asks = " (asks for a token)" if "security" in operation else ""
            parts.append(f"<p>{escape(operation.get('summary', ''))}{asks}</p>")
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]["schema"]
                parts.append(f"<p>Body</p>{_schema(content, schemas)}")
            reply = operation["responses"].get("200", {}).get("content", {})
            shape = reply.get("application/json", {}).get("schema")
            if shape:
                parts.append(f"<p>Answer</p>{_schema(shape, schemas)}")
    rows = "".join(
        f"<tr><td>{kind.status}<td><code>{kind.slug}</code><td>{escape(kind.title)}"
        for kind in sorted(KINDS, key=lambda kind: (kind.status, kind.slug))
    )
    parts.append(f"<h2>Problems</h2><table><tr><th>status<th>type<th>meaning{rows}</table>")
    return "\n".join(parts)


def _schema(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return "<p>or</p>".join(_schema(one, schemas) for one in schema["anyOf"])
    reference = schema.get("$ref")
    shown = schemas[reference.rpartition("/")[2]] if reference else schema
    fields = shown.get("properties")
    shape = fields or shown
    return f"<pre>{escape(json.dumps(shape, indent=1))}</pre>"
