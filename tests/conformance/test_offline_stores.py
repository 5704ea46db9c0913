"""The embedded offline store and Delta Lake keep the promises of the port."""

from __future__ import annotations

from assay.testing.offline_store import OfflineStoreTests


class TestParquetStore(OfflineStoreTests):
    opening = "assay.features.offline.parquet:ParquetStore"


class TestDeltaStore(OfflineStoreTests):
    opening = "assay.adapters.delta:DeltaStore"
