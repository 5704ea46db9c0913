"""The prediction routes with a span for each request. Without tracing this is not in their way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from assay.serving.http.inference import Inference
from assay.serving.prediction.predictions import BatchPrediction, Prediction
from assay.serving.rejections import Rejected
from assay.serving.requests.asgi import Answer, Disconnected, Headers, Receive, Scope, Send
from assay.serving.requests.reception import REQUEST_ID, Head
from assay.serving.telemetry.tracing import CURRENT, Attribute, Span, Tracing

STATUS: Final = "http.response.status_code"
_GONE: Final = 499  # what proxies log where a client did not wait


class TracedInference(Inference):
    """:class:`~assay.serving.http.inference.Inference` that says of each request what became of it.

    Parameters
    ----------
    tracing: keeps the spans. The others are those of the class above.
    """

    def __init__(self, tracing: Tracing, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._tracing = tracing

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST to a path that :meth:`answers`."""
        head = self._reception.read(scope)
        # Whatever id it is given now, it keeps: the last header of a name counts.
        scope["headers"] = [*scope["headers"], (REQUEST_ID, head.id)]
        with self._traced(path, head):
            await super().serve(path, scope, receive, send)

    def at_once(self, path: str, headers: Headers, body: bytes, arrived: int) -> Answer | None:
        """The answer to a whole POST to a path that :meth:`answers`; None, with nothing done, where
        its features may have to be waited for.
        """
        head = self._reception.read_headers(headers, arrived)
        named = [*headers, (REQUEST_ID, head.id)]
        with self._traced(path, head) as span:
            made = super().at_once(path, named, body, arrived)
            if made is None:
                span.forget()  # it is answered the long way, which has a span of its own
            return made

    def count_refusal(self, route: str, head: Head, problem: Rejected) -> None:
        """Count a request that was refused, and tell of it."""
        span = CURRENT.get()
        if span is not None:
            span.note({"assay.problem": problem.kind.slug})
            if problem.kind.status >= 500:
                span.fail(problem.kind.title)
        super().count_refusal(route, head, problem)

    def _refused(self, path: str, head: Head, problem: Rejected) -> Answer:
        span = CURRENT.get()
        if span is not None:
            span.note({STATUS: problem.kind.status})
        return super()._refused(path, head, problem)

    def _keep(self, made: Prediction | BatchPrediction, head: Head, count: int = 1) -> None:
        span = CURRENT.get()
        if span is not None:
            model = made.model
            span.note(
                {
                    "assay.model": model.name,
                    "assay.model.version": model.label,
                    "assay.manifest": model.manifest or "",
                }
            )
        super()._keep(made, head, count)

    @contextmanager
    def _traced(self, path: str, head: Head) -> Iterator[Span]:
        route = self.route_of(path)
        known: dict[str, Attribute] = {
            "http.request.method": "POST", "http.route": route, STATUS: 200,
        }  # fmt: skip
        age = self._ticks() - head.arrived
        with spanned(self._tracing, f"POST {route}", head, known, age) as span:
            try:
                yield span
            except Disconnected:
                span.note({STATUS: _GONE})
            except Exception:
                span.note({STATUS: 500})
                raise


@contextmanager
def spanned(
    tracing: Tracing, name: str, head: Head, known: Mapping[str, Attribute], age: int
) -> Iterator[Span]:
    """A span around a request that came ``age`` nanoseconds ago; what is raised is a defect."""
    attributes = {**known, "assay.request_id": head.id.decode("ascii")}
    if head.manifest is not None:
        attributes["assay.manifest"] = head.manifest[:80]
    span = tracing.begin(name, head.headers, attributes, age)
    token = CURRENT.set(span)
    try:
        yield span
    except Exception as error:
        span.fail(type(error).__name__)
        raise
    finally:
        CURRENT.reset(token)
        span.end()
