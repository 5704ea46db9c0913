"""Feast's side of :mod:`benchmarks.peers`; run by a Python that has Feast, prints one JSON object.

python feast_side.py history SOURCE.parquet MOMENTS.parquet FOLDER
python feast_side.py online SOURCE.parquet FOLDER sqlite
python feast_side.py online SOURCE.parquet FOLDER redis HOST:PORT
"""

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

os.environ.setdefault("FEAST_USAGE", "False")  # nothing leaves this machine


def best(times, work):
    found = []
    for _ in range(times):
        started = time.perf_counter()
        result = work()
        found.append(time.perf_counter() - started)
    return min(found), result


def median(times, work):
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return sorted(found)[len(found) // 2]


def opened(source, folder, online):
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = RepoConfig(
        registry=str(folder / "registry.db"),
        project="bench",
        provider="local",
        offline_store={"type": "duckdb"},
        online_store=online(folder),
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    instrument = Entity(name="instrument", join_keys=["instrument"], value_type=ValueType.STRING)
    view = FeatureView(
        name="bench",
        entities=[instrument],
        ttl=timedelta(hours=24),
        schema=[Field(name=f"f{n}", dtype=Float64) for n in range(50)],
        source=FileSource(path=str(source), timestamp_field="event_time"),
    )
    store.apply([instrument, view])
    return store, [f"bench:f{n}" for n in range(50)]


def history(source, moments, folder):
    import pandas as pd

    store, features = opened(source, folder, lambda f: {"type": "sqlite", "path": str(f / "o.db")})
    frame = pd.read_parquet(moments)
    seconds, answer = best(
        3, lambda: store.get_historical_features(entity_df=frame, features=features).to_df()
    )
    return {"seconds": seconds, "rows": len(answer), "sum": float(answer["f0"].sum())}


def online(source, folder, kind, address=None):
    def config(place):
        if kind == "redis":
            return {"type": "redis", "connection_string": address}
        return {"type": "sqlite", "path": str(place / "online.db")}

    import pandas as pd

    store, features = opened(source, folder, config)
    frame = pd.read_parquet(source, columns=["instrument", "event_time"])
    end = frame["event_time"].max().to_pydatetime().replace(tzinfo=UTC) + timedelta(hours=1)
    started = time.perf_counter()
    store.materialize(datetime(2020, 1, 1, tzinfo=UTC), end)
    seconds = time.perf_counter() - started
    names = sorted(frame["instrument"].unique())
    reads = {}
    for count, times in ((1, 300), (100, 60)):
        entities = [{"instrument": name} for name in names[:count]]
        reads[str(count)] = median(
            times,
            lambda entities=entities: store.get_online_features(
                features=features, entity_rows=entities
            ).to_dict(),
        )
    return {"rows_per_second": len(names) / seconds, "reads": reads}


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    sys.stdout.write("\n" + json.dumps({"history": history, "online": online}[what](*rest)) + "\n")
