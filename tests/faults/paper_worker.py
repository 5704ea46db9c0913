"""Feeds a paper account from many processes, each of which kills itself after one line.

usage: paper_worker.py JOURNAL WHOLE

Every child appends the lines of one event, the first of them, or a part of one, and dies by
SIGKILL; the next one goes on. At the end JOURNAL is complete. WHOLE is written by one process that
nobody kills.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from assay.portfolio import Decision, Instrument, PaperAccount, PaperTerms, Prices, Terms, Weighting
from assay.portfolio import paper as module
from assay.storage.files import append_lines

DAY = 86_400 * 10**9
NAMES = ("A", "B", "C")
TERMS = PaperTerms(
    {"model": "m"},
    tuple(Instrument(n) for n in NAMES),
    Terms(weighting=Weighting(min_names=2)),
    state_every=3,
)


def feed(path: Path) -> None:
    generator = np.random.default_rng(5)
    with PaperAccount(path, TERMS) as account:
        for day in range(8):
            prices, scores = np.exp(0.1 * generator.standard_normal((2, 3)))
            account.take(Prices(day * DAY, dict(zip(NAMES, prices.tolist(), strict=True))))
            decision = dict(zip(NAMES, scores.tolist(), strict=True))
            account.decide(Decision(f"d{day}", day * DAY + 1, decision))


def dying(number: int) -> Callable[..., None]:
    """An append that dies: after all lines, after the first, or in the middle of the last."""

    def append(path: Path, lines: Sequence[bytes], *, sync: bool = True) -> None:
        match number % 3:
            case 0:
                append_lines(path, lines[:1])
            case 1:
                append_lines(path, lines)
            case _:
                if lines[:-1]:
                    append_lines(path, lines[:-1], sync=sync)
                with path.open("ab") as handle:
                    handle.write(lines[-1][: len(lines[-1]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    return append


def main() -> None:
    journal, whole = Path(sys.argv[1]), Path(sys.argv[2])
    feed(whole)
    killed = 0
    while True:
        child = os.fork()
        if child == 0:
            module.append_lines = dying(killed)
            feed(journal)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        killed += 1
    print(killed)


if __name__ == "__main__":
    main()
