"""Runs registry work in processes that are killed; started by the tests beside it.

Reads one JSON order per line and forks a child for each, so that importing the libraries is paid
for once. The answer is one line too: how the child ended, and how many calls it made.

A child dies either at the n-th call of a C function (a file operation, a statement of SQLite, a
commit: every boundary at which a real kill could fall), or after some milliseconds.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import onnxruntime  # noqa: F401  # loaded once, before forking

from assay.delivery.approvals import approve
from assay.delivery.promotion import break_glass, promote
from assay.delivery.rollback import rollback
from assay.domain.versions import Stage
from assay.errors import AssayError, Conflict
from assay.registry import KeyRing, ModelRegistry
from assay.registry.backup import BackupStore
from assay.registry.collection import collect, hold, release
from assay.registry.retention import Retention
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    make_candidate,
    pass_gates,
)


def open_registry(folder, clock, order):
    desk = folder / "desk"
    ledger = None
    if order.get("url"):
        from assay.adapters.postgres import PostgresLedger

        ledger = PostgresLedger(order["url"])
    return ModelRegistry(
        desk / "data" / "models",
        KeyRing(desk / "keys", folder / "private"),
        clock,
        audit_path=desk / "observability" / "audit" / "model_events.jsonl",
        ledger=ledger,
    )


def journey(folder, order):
    """Register a version, judge, approve and promote it; every second time roll back as well.

    Every fourth time the catalogue is made again before.
    """
    clock = FixedClock(10**18 + order["round"] * 10**9)
    registry = open_registry(folder, clock, order)
    if order["round"] % 4 == 3:
        registry.rebuild()
    version = str(registry.next_version("fx_vol"))
    registry.register(make_candidate(version=version, weights=(order["round"], 1)))
    pass_gates(registry, "fx_vol", version)
    for person in (FIRST_APPROVER, SECOND_APPROVER):
        approve(registry, "fx_vol", version, person, clock=clock)
    promote(
        registry, "fx_vol", version, initiated_by=AUTHOR, clock=clock, monotonic=time.monotonic,
        promotions_log=folder / "desk" / "artifacts" / "promotions.log",
    )  # fmt: skip
    if order["round"] % 2 and registry.list("fx_vol", Stage.ARCHIVED):
        rollback(registry, "fx_vol", reason="drift", initiated_by=AUTHOR, monotonic=time.monotonic)


def contend(folder, order):
    """Register one, try to put every staged one into production, and to roll back, with others."""
    clock = FixedClock(10**18)
    registry = open_registry(folder, clock, order)
    while True:
        version = str(registry.next_version("fx_vol"))
        try:
            registry.register(make_candidate(version=version, weights=(10_000 + order["round"], 1)))
            break
        except Conflict:
            continue  # another took that number; this content is new
    for record in registry.list("fx_vol")[-2:]:
        try:
            if (order["round"] + record.semantic.minor) % 3 == 0:
                rollback(
                    registry, "fx_vol", reason="drift", initiated_by=AUTHOR,
                    monotonic=time.monotonic,
                )  # fmt: skip
            elif (order["round"] + record.semantic.minor) % 3 == 1:
                break_glass(
                    registry, "fx_vol", record.version, initiated_by=AUTHOR, reason="race",
                    clock=clock, monotonic=time.monotonic,
                )  # fmt: skip
            else:
                pass_gates(registry, "fx_vol", record.version, loss=order["round"])
                for person in (FIRST_APPROVER, SECOND_APPROVER):
                    approve(registry, "fx_vol", record.version, person, clock=clock)
                promote(
                    registry, "fx_vol", record.version, initiated_by=AUTHOR, clock=clock,
                    monotonic=time.monotonic,
                )  # fmt: skip
        except AssayError:
            continue  # somebody else was first


def care(folder, order):
    """Register and promote, hold, collect, back up, rebuild, restore; each round five days on."""
    clock = FixedClock(10**18 + order["round"] * 5 * 86_400 * 10**9)
    registry = open_registry(folder, clock, order)
    made = registry.register(
        make_candidate(version=str(registry.next_version("fx_vol")), weights=(order["round"], 1))
    )
    if made.stage is Stage.STAGED:  # else a round that was killed came that far
        break_glass(
            registry, "fx_vol", made.version, initiated_by=AUTHOR, reason="test", clock=clock,
            monotonic=time.monotonic,
        )  # fmt: skip
    first = next(one for one in registry.list("fx_vol") if registry.collected(one) is None)
    if registry.held(first):
        release(registry, "fx_vol", first.version, initiated_by=AUTHOR, reason="over")
    else:
        hold(registry, "fx_vol", first.version, initiated_by=AUTHOR, reason="audit")
    collect(registry, Retention(1, 1, 1, rollbacks=2), initiated_by=AUTHOR)
    store = BackupStore(LocalObjects(folder / "backups"))
    store.take(registry)
    registry.rebuild()
    store.restore(store.get(), folder / "restored" / str(order["round"]), registry.keyring, clock)


def run(order):
    folder = Path(order["folder"])
    calls = 0
    kill_at = order.get("kill_at")

    def count(_frame, event, _argument):
        nonlocal calls
        if event == "c_call":
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if kill_at is not None or order.get("count"):
        sys.setprofile(count)
    {"journey": journey, "contend": contend, "care": care}[order["work"]](folder, order)
    sys.setprofile(None)
    return calls


def main():
    for line in sys.stdin:
        orders = json.loads(line)
        children = []
        for order in orders:
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.write(writer, str(run(order)).encode())
                    os._exit(0)
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                    os._exit(1)
            os.close(writer)
            children.append((child, reader, order))
        answers = []
        for child, reader, order in children:
            if "kill_after" in order:
                time.sleep(order["kill_after"])
                os.kill(child, signal.SIGKILL)
            text = b""
            while chunk := os.read(reader, 100):
                text += chunk
            os.close(reader)
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            answers.append({"exit": code, "calls": int(text) if text else None})
        print(json.dumps(answers), flush=True)


main()
