"""The description of every route: FastAPI's own, and the plain ones added to it; and as a page.

The page stands alone: no script and no style sheet from elsewhere, because a desk's network may
not reach one and should not have to.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

import msgspec

from assay.serving.rejections import KINDS
from assay.serving.wire import (
    BatchAnswer,
    BatchRequest,
    InferenceAnswer,
    InferenceRequest,
    PredictAnswer,
    PredictRequest,
    Problem,
)

_ROUTES = (
    ("/predict", "Predict for an instrument with its stored features", PredictRequest,
     PredictAnswer),
    ("/inference/predict", "Predict from features", InferenceRequest, InferenceAnswer),
    ("/inference/batch", "Predict from rows of features", BatchRequest, BatchAnswer),
)  # fmt: skip
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
pre{background:#8881;padding:.8rem;overflow:auto}h2{margin-top:2.5rem;font-size:1.1rem}
td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}:root{color-scheme:light dark}
code{font-size:.9em}"""


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's OpenAPI document with the prediction routes and the problem documents."""
    structures = [item for _, _, *both in _ROUTES for item in both]
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
    for path, summary, request, reply in _ROUTES:
        document["paths"][path] = {
            "post": {
                "summary": summary,
                "description": request.__doc__,
                "operationId": path.strip("/").replace("/", "_"),
                "parameters": [
                    {
                        "name": "X-Assay-Manifest",
                        "in": "header",
                        "required": False,
                        "description": "Hash of the feature manifest that the request follows.",
                        "schema": {"type": "string"},
                    }
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": by_structure[request]}},
                },
                "responses": {
                    "200": {
                        "description": (reply.__doc__ or "").strip(),
                        "content": {"application/json": {"schema": by_structure[reply]}},
                    }
                },
            }
        }
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["4XX"] = problem
            operation["responses"]["503"] = problem
    return document


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
            parts.append(f"<p>{escape(operation.get('summary', ''))}</p>")
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
    reference = schema.get("$ref")
    shown = schemas[reference.rpartition("/")[2]] if reference else schema
    fields = shown.get("properties")
    shape = fields or shown
    return f"<pre>{escape(json.dumps(shape, indent=1))}</pre>"
