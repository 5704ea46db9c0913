"""A certificate that is of no use soon is warned of before clients refuse it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assay.cli.serve import _certificate
from assay.testing.certificates import self_signed


@pytest.mark.parametrize(
    ("days", "words"),
    [(-1, "clients will refuse it"), (13, "holds until"), (15, None)],
)
def test_a_certificate_is_warned_of_before_it_ends_and_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, days: int, words: str | None
) -> None:
    files = self_signed(tmp_path / "tls", ends=datetime.now(UTC) + timedelta(days=days))
    assert _certificate(files.certificate, files.key) is not None
    assert (words in caplog.text) if words else caplog.text == ""
