"""Pages that were written on the server's machine: reports, gate reports, comparisons."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response

from assay.access import Scope
from assay.domain.instants import render
from assay.errors import NotFound, did_you_mean
from assay.registry_api.documents import ReportList
from assay.registry_api.reads import Route, answer, caller_of, tags_of

_SAFE = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        "frame-ancestors 'none'; sandbox"
    )
}
"""What was written into a page, such as a reason, runs nothing in the reader's browser."""


class Reports:
    """The HTML pages under a folder. Links are not followed, hidden files not shown."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def routes(self) -> tuple[Route, ...]:
        """The paths."""
        return (
            Route("GET", "/api/v1/reports", self.listed, "The pages that there are", ReportList),
            Route("GET", "/api/v1/reports/page", self.page, "One of them", None),
        )

    def listed(self, request: Request) -> Response:
        caller_of(request).require(Scope.READ)
        items = [
            {"name": name, "bytes": state.st_size, "written_at": render(state.st_mtime_ns)}
            for name, state in self._found()
        ]
        return answer(request, {"items": items})

    def page(
        self,
        request: Request,
        name: Annotated[str, Query(max_length=300, description="As the list of pages has it.")],
    ) -> Response:
        caller_of(request).require(Scope.READ)
        names = [found for found, _ in self._found()]
        # Only a name that the list has is opened: there is no path to leave the folder by.
        if name not in names:
            raise NotFound(f"no report {name[:100]!r}", hint=did_you_mean(name, names))
        return page_answer(request, (self._folder / name).read_bytes())

    def _found(self) -> Iterator[tuple[str, os.stat_result]]:
        for folder, folders, files in os.walk(self._folder):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            for file in sorted(files):
                path = Path(folder, file)
                if path.suffix == ".html" and not file.startswith(".") and not path.is_symlink():
                    yield path.relative_to(self._folder).as_posix(), path.stat()


def page_answer(request: Request, content: bytes) -> Response:
    """A page with its tag; 304 for somebody who has it already."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    if tag in tags_of(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(content, media_type="text/html", headers={"ETag": tag, **_SAFE})
