"""The process that is killed, for every test that kills one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ONLINE_WORKER = Path(__file__).with_name("online_worker.py")


@pytest.fixture(scope="module")
def worker():
    """Gives orders to ``online_worker.py``; the answer is the exit status of each."""
    process = subprocess.Popen(
        [sys.executable, str(ONLINE_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def order(**wanted):
        wanted["folder"] = str(wanted["folder"])
        process.stdin.write(json.dumps(wanted) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield order
    process.stdin.close()
    process.stdout.close()
    assert process.wait(30) == 0
