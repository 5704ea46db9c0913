"""The process that is killed, for every test that kills one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def make_worker():
    """Gives orders to a file beside this one; the answer is the exit status of each."""
    started = []

    def make(name):
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(name))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)

        def order(**wanted):
            wanted["folder"] = str(wanted["folder"])
            process.stdin.write(json.dumps(wanted) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        return order

    yield make
    for process in started:
        process.stdin.close()
        process.stdout.close()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def worker(make_worker):
    """Gives orders to ``online_worker.py``."""
    return make_worker("online_worker.py")
