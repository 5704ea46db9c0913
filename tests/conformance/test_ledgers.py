"""Every place for a registry's log and catalogue keeps the promises of the port."""

from __future__ import annotations

import sqlite3

import pytest

from assay.registry import FileLedger
from assay.testing.ledger import LedgerTests


class FilePlace:
    def __init__(self, root):
        self.root = root

    def open(self):
        return FileLedger(self.root)

    def rewrite(self, lines):
        path = self.root / "log" / "events.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines))

    def execute(self, statement):
        connection = sqlite3.connect(self.root / "registry.db")
        try:
            with connection:
                connection.execute(statement)
        finally:
            connection.close()


class PostgresPlace:
    def __init__(self, url):
        self.url = url

    def open(self):
        from assay.adapters.postgres import PostgresLedger

        return PostgresLedger(self.url)

    def rewrite(self, lines):
        size = 0
        self.execute("ALTER TABLE log DISABLE TRIGGER only_added_to")
        self.execute("DELETE FROM log")
        for number, line in enumerate(lines, start=1):
            size += len(line) + 1
            self.execute("INSERT INTO log VALUES (%s, %s, %s)", (number, line, size))
        self.execute("ALTER TABLE log ENABLE TRIGGER only_added_to")

    def execute(self, statement, values=None):
        from assay.adapters.postgres import PostgresAddress
        from assay.adapters.postgres.connection import connect

        with connect(PostgresAddress.parse(self.url)) as connection:
            connection.execute(statement, values)


class TestFileLedger(LedgerTests):
    @pytest.fixture
    def place(self, tmp_path):
        return FilePlace(tmp_path / "registry")


class TestPostgresLedger(LedgerTests):
    @pytest.fixture
    def place(self, postgres_url):
        return PostgresPlace(postgres_url)
