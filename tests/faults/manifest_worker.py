"""Promotes manifests and fills caches in processes that can be killed; driven by its input.

Each order runs in a fork, so that the compiler is loaded once. ``kill`` names where it ends with
SIGKILL: ``line`` before the so-many-th line of the code under test, or ``record``, ``follow`` and
``tell`` before the so-many-th call of that name.
"""

import json
import os
import signal
import sys
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/delivery"))

import manifest_place

from assay.delivery.manifests import ActiveManifests
from assay.features import DiskFeatureCache
from assay.features.online import OnlineFeed
from assay.registry import ModelRegistry
from assay.testing.clocks import FixedClock

TRACED = (
    "/assay/delivery/manifests/", "/assay/storage/", "/assay/registry/journal",
    "/assay/registry/catalogue", "/definition/catalogue", "/offline/cache",
)  # fmt: skip
FRAMES = 6


class Killer:
    """Counts, and ends the process when its turn has come."""

    def __init__(self, kill):
        self.kill = kill or {}
        self.counts = {}

    def pass_by(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1
        if self.kill.get(what) == self.counts[what]:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner, name, what):
        call = getattr(owner, name)

        def counted(*arguments, **options):
            self.pass_by(what)
            return call(*arguments, **options)

        setattr(owner, name, counted)

    def trace(self, frame, event, _):
        if not any(part in frame.f_code.co_filename for part in TRACED):
            return None
        if event == "line":
            self.pass_by("line")
        return self.trace


def frame_of(number):
    return pl.DataFrame({"n": [number] * 500, "x": [number / 7] * 500})


def fill_cache(folder):
    cache = DiskFeatureCache(folder / "cache", clock=FixedClock(1), max_bytes=6_000)
    with (folder / "computed").open("a") as computed:
        for number in range(FRAMES):

            def compute(number=number):
                computed.write(f"{number}\n")
                computed.flush()
                return frame_of(number)

            found, _ = cache.get_or_compute("f", "2026-01-01", f"s{number}", ["v"], "c", compute)
            assert found.equals(frame_of(number))


def promote(folder, killer):
    killer.before(ModelRegistry, "record_manifest", "record")
    killer.before(ActiveManifests, "follow", "follow")
    place = manifest_place.Place(folder)
    chosen = manifest_place.view(manifest_place.SECOND)
    place.promote(chosen, tell=lambda _: killer.pass_by("tell"))


def run(order):
    folder, killer = Path(order["folder"]), Killer(order.get("kill"))
    if order.get("traced"):
        sys.settrace(killer.trace)
    if order["work"] == "cache":
        fill_cache(folder)
    else:
        promote(folder, killer)
    sys.settrace(None)
    (folder / "counts").write_text(json.dumps(killer.counts))


def main():
    OnlineFeed(manifest_place.view(), None).take([])  # loads the compiler before the first fork
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(order)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps(os.waitstatus_to_exitcode(status)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
