"""Whatever is sent, the service answers as documented and never with a 5xx of its own making.

Bodies are generated from the OpenAPI document, then damaged: other types, other names, cut bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MANIFEST = "a" * 64
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["USD_SGD", "fx_vol", "champion", "2023-11-14T10:00:00Z", 1e39, 10**400]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner,
                                                                max_size=4),
    max_leaves=12,
)  # fmt: skip
KNOWN_TEXT = st.sampled_from(
    ["USD_SGD", "NO_HISTORY", "fx_vol", "fx_vol/1.0.0", "champion", "ret_1", "vol_5", "vol_20",
     "2023-11-14T10:00:00Z", "2023-11-14T10:00:00", "2099-01-01", "\udc80", "\x00", "x" * 300]
)  # fmt: skip


def bodies(schema: Any, schemas: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a JSON schema, as far as the document uses it."""
    if "$ref" in schema:
        return bodies(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return st.one_of(*(bodies(one, schemas) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        if "properties" not in schema:
            return st.dictionaries(
                KNOWN_TEXT, bodies(schema.get("additionalProperties", {}), schemas), max_size=4
            )
        fields = {name: bodies(one, schemas) for name, one in schema["properties"].items()}
        required = set(schema.get("required", ()))
        return st.fixed_dictionaries(
            {name: one for name, one in fields.items() if name in required},
            optional={name: one for name, one in fields.items() if name not in required},
        )
    if kind == "array":
        return st.lists(bodies(schema["items"], schemas), max_size=4)
    return {
        "string": KNOWN_TEXT | st.text(max_size=30),
        "number": st.floats(),
        "integer": st.integers(),
        "boolean": st.booleans(),
        "null": st.none(),
    }.get(str(kind), ANYTHING)


class Described(dict[str, Any]):
    """The document, which no report needs to repeat."""

    def __repr__(self) -> str:
        return "document"


@st.composite
def requests(draw: st.DrawFn, document: dict[str, Any]) -> tuple[str, bytes, str | None]:
    posts = {path: one["post"] for path, one in document["paths"].items() if "post" in one}
    path = draw(st.sampled_from(sorted(posts)))
    operation = posts[path]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    body = draw(bodies(content.get("schema", {}), document["components"]["schemas"]))
    damage = draw(
        st.sampled_from(["none", "none", "none", "none", "field", "field", "value", "cut", "bytes"])
    )
    if damage == "field" and isinstance(body, dict):
        keys = [*body, draw(st.text(max_size=8))]
        body = {**body, draw(st.sampled_from(keys)): draw(ANYTHING)}
    if damage == "value":
        body = draw(ANYTHING)
    path = path.replace("{model}", draw(st.sampled_from(["fx_vol", "champion", "%00", "nobody"])))
    path = path.replace("{version}", draw(st.sampled_from(["1.0.0", "v1.0.0", "2", "latest"])))
    data = json.dumps(body).encode()
    if damage == "cut":
        data = data[: draw(st.integers(0, len(data)))]
    if damage == "bytes":
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=6)) + data[place:]
    return path, data, draw(st.sampled_from([MANIFEST, MANIFEST, None, "", "b" * 64]))


def check(stage: Any, path: str, body: bytes, manifest: str | None) -> int:
    answer = stage.ask("POST", path, body, manifest=manifest)
    if answer.status == 200:
        assert answer.headers["content-type"] == "application/json"
        answer.json()
        return 200
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    # A number that is still a float32 can lead the model to one that is none.
    documented = 400 <= answer.status < 500 or problem["type"] == "urn:assay:problem:model-failed"
    # In ASCII: a report with a lone surrogate in it would be lost between test processes.
    assert documented, ascii((path, body, problem))
    assert problem["status"] == answer.status
    assert {"type", "title", "detail", "found", "expected"} <= set(problem)
    return int(answer.status)


def run(make: Any, folder: Path, examples: int) -> set[int]:
    stage = make()
    document = stage.service.openapi()
    seen: set[int] = set()

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(requests(Described(document)))
    def every_request(request: tuple[str, bytes, str | None]) -> None:
        (folder / "stop" / "KILL").unlink(missing_ok=True)
        stage.switch.off(by="test", reason="the last request switched it on")
        seen.add(check(stage, *request))

    every_request()
    return seen


def test_hundreds_of_generated_bodies_get_documented_answers(staged: Any, tmp_path: Path) -> None:
    seen = run(staged, tmp_path, 400)
    assert {200, 400, 422, 409, 404, 428} <= seen


@pytest.mark.long
def test_ten_thousand_generated_bodies_get_documented_answers(staged: Any, tmp_path: Path) -> None:
    assert {200, 400, 422, 409, 404, 428} <= run(staged, tmp_path, 10_000)
