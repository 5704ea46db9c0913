"""One year of hourly rows through Feast, run by the Python of an environment that has Feast.

Not a part of Assay: ``python -m benchmarks point_in_time`` starts it where ``.feast/bin/python``
exists. It gets a folder with rows.parquet and spine.parquet, and prints the best seconds, the peak
memory in GiB, and the sum of the first feature.

    python3.11 -m venv .feast && .feast/bin/pip install 'feast[duckdb]==0.67.0'
"""

import json
import resource
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

warnings.filterwarnings("ignore")

REPEATS = 2


def main(folder: Path) -> None:
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Float64

    (folder / "feature_store.yaml").write_text(
        "project: bench\nregistry: registry.db\nprovider: local\n"
        "offline_store:\n  type: duckdb\nonline_store:\n  type: sqlite\n  path: online.db\n"
        "entity_key_serialization_version: 3\n"
    )
    rows = pd.read_parquet(folder / "rows.parquet")
    spine = pd.read_parquet(folder / "spine.parquet")
    features = [name for name in rows.columns if name.startswith("f")]
    entity = Entity(name="instrument", join_keys=["instrument"])
    source = FileSource(
        path=str(folder / "rows.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    view = FeatureView(
        name="bench",
        entities=[entity],
        ttl=timedelta(days=2),
        schema=[Field(name=name, dtype=Float64) for name in features],
        source=source,
    )
    store = FeatureStore(repo_path=str(folder))
    store.apply([entity, view])
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        found = store.get_historical_features(
            entity_df=spine, features=[f"bench:{name}" for name in features]
        ).to_df()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gib = peak / (2**30 if sys.platform == "darwin" else 2**20)
    checksum = [round(float(found["f0"].sum()), 6), int(found["f49"].isna().sum())]
    sys.stdout.write("\n" + json.dumps({"seconds": min(seconds), "gib": gib, "checksum": checksum}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
