"""A desk's model with features of what a request brings: from past requests to repeated answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.domain.instants import parse
from assay.serving import Rejected
from assay.testing.clocks import FixedClock

VIEWS = """
from assay.features import RequestView

order = RequestView(
    "order",
    stored=(fx_daily,),
    inputs=("order_size", "quote"),
    features={
        "impact_vol": col("ewm_vol_94") * (1.0 + 0.1 * (col("order_size") / 1e6)),
        "log_size": col("order_size").log(),
        "edge": col("quote") / col("mid") - 1.0,
    },
)
"""
RECIPE = """
from assay.training import Boosting, LabelDeclaration, Recipe, VarianceCorrection, WalkForward

order_vol = Recipe(
    name="order_vol",
    kind="risk_model",
    view="fx_daily",
    request="order",
    label=LabelDeclaration("squared_log_return", horizon=1, entry=0),
    estimator=VarianceCorrection("impact_vol", learner=Boosting(rounds=5, depth=2)),
    features=("ewm_vol_94", "vol_20", "impact_vol", "log_size", "edge"),
    seeds=(1,),
    walk_forward=WalkForward(folds=3, initial_share=0.4, embargo_days=7),
    description="Volatility of the next session for the order at hand.",
)
"""


def past_requests(desk: Any, rows: int) -> pl.DataFrame:
    """Orders at random moments, some before anything was known, each with a quote near the rate."""
    generator = np.random.default_rng(3)
    gold = desk.lake.table("gold/fx_daily").read().sort("known_time")
    picked = gold[np.sort(generator.integers(0, len(gold), rows))]
    shift = generator.integers(0, 20 * 3_600 * 10**9, rows)
    frame = pl.DataFrame(
        {
            "instrument": picked["instrument"],
            "as_of": picked["known_time"] + pl.Series(shift),
            "order_size": np.exp(generator.normal(13, 1, rows)),
            "quote": picked["mid"].fill_nan(1.0) * np.exp(generator.normal(0, 1e-3, rows)),
        }
    )
    return frame.unique(["instrument", "as_of"], maintain_order=True)


@pytest.fixture(scope="module")
def promoted(shell: Any, archive: Any) -> Iterator[tuple[Path, Any]]:
    """A desk with the model in production, and the run that made it."""
    from assay import bootstrap
    from assay.delivery.promotion import break_glass
    from assay.orchestration.building import build_features
    from assay.orchestration.ingestion import ingest
    from assay.orchestration.modelling import register_run, train_recipe
    from assay.orchestration.progress import Silent
    from assay.registry.keyring import PURPOSES

    folder: Path = shell.home / "orders"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
        members = [bootstrap.Member("ops.demo", tuple(PURPOSES))]
        bootstrap.create_desk(folder, name="orders", members=members)
        archive(folder / "configs/rates.zip")
        path = folder / "configs/sources.yaml"
        document = yaml.safe_load(path.read_text())
        document["sources"]["ecb"]["path"] = "rates.zip"
        document["universe"]["min_observed"] = 300
        path.write_text(yaml.safe_dump(document))
        with (folder / "features/fx.py").open("a") as handle:
            handle.write(VIEWS)
        (folder / "models/order_vol.py").write_text(RECIPE)
        desk = bootstrap.open_desk(folder)
        ingest(desk, Silent())
        build_features(desk, "fx_daily", Silent())
        past_requests(desk, 3_000).write_parquet(folder / "orders.parquet")
        for added in (True, False):
            done = shell.json(
                "requests", "add", "order", str(folder / "orders.parquet"), "--desk", str(folder)
            )
            assert (done["added"] > 2_900) == added
        run = train_recipe(desk, "order_vol", Silent())
        register_run(desk, run, author="ops.demo")
        break_glass(
            desk.registry, "order_vol", "1.0.0", initiated_by="ops.demo", reason="a test",
            clock=desk.clock, monotonic=time.monotonic,
        )  # fmt: skip
        yield folder, run


def test_the_run_names_the_requests_and_the_request_view(promoted: tuple[Path, Any]) -> None:
    _, run = promoted
    query = run.record["training_set"]["query"]
    assert run.record["rebuilt_digest"] == run.record["training_set"]["digest"]
    assert query["spine"]["table"] == "silver/requests_order"
    assert run.record["training_set"]["snapshots"].keys() == {
        "gold/fx_daily", "silver/market", "silver/requests_order"
    }  # fmt: skip
    assert query["request"]["inputs"] == ["order_size", "quote"]
    assert run.schema.names == ("ewm_vol_94", "vol_20", "impact_vol", "log_size", "edge")


def test_past_requests_asked_again_have_the_bits_of_their_training_rows_and_so_has_the_log(
    promoted: tuple[Path, Any],
) -> None:
    from assay import bootstrap
    from assay.orchestration.modelling import build_training_set
    from assay.serving import OnnxModel

    folder, run = promoted
    desk = bootstrap.open_desk(folder)
    made = build_training_set(desk, desk.recipe("order_vol"))
    assert made.digest == run.record["training_set"]["digest"]
    names = run.schema.names
    rows = made.frame.tail(200)
    inputs = rows.select(names).to_numpy()
    offline = OnnxModel.from_bytes(run.read("model.onnx"), run.schema)
    clock = FixedClock(int(rows["as_of"][-1]))
    service = bootstrap.open_service(folder, champion="order_vol", clock=clock)
    service.predictions.start()
    answered = []
    for row, values in zip(rows.iter_rows(named=True), inputs, strict=True):
        asked = {name: row[name] for name in ("order_size", "quote")}
        if not np.isfinite(values).all():
            with pytest.raises(Rejected):
                service.predictor.predict(
                    row["instrument"], row["as_of"], request=asked, manifest=made.manifest_hash
                )
            continue
        now = service.predictor.predict(
            row["instrument"], row["as_of"], request=asked, manifest=made.manifest_hash
        )
        service.predictions.offer(now)
        assert np.array(now.features).tobytes() == values.tobytes()
        assert now.value == offline.predict(values.astype(np.float32).reshape(1, -1))[0]
        answered.append(now)
    service.predictions.stop()
    assert len(answered) > 150
    lines = [json.loads(line) for line in service.predictions.path.read_text().splitlines()]
    later = bootstrap.open_service(folder, champion="order_vol", clock=clock).predictor
    for line, before in zip(lines, answered, strict=True):
        again = later.predict(
            line["instrument"], parse(line["timestamp"]), request=line["request"],
            manifest=line["manifest"],
        )  # fmt: skip
        assert (again.value, again.features) == (line["prediction"], line["features"])
        assert (again.value, again.features) == (before.value, before.features)


def test_evidence_is_measured_and_the_report_knows_the_request_view(
    promoted: tuple[Path, Any],
) -> None:
    from assay import bootstrap
    from assay.orchestration.judging import judge_version
    from assay.orchestration.progress import Silent
    from assay.orchestration.report import write_report

    folder, _ = promoted
    desk = bootstrap.open_desk(folder)
    done = judge_version(desk, "order_vol", "1.0.0", initiated_by="ops.demo", progress=Silent())
    measured = {one.name: one for one in done.evidence}
    assert measured["var_coverage"].value is not None
    page = write_report(desk, folder / "report.html").read_text()
    assert "is built by other definitions now" not in page


def test_a_changed_request_view_is_not_served(promoted: tuple[Path, Any], tmp_path: Path) -> None:
    import shutil

    from assay import bootstrap
    from assay.errors import IncompatibleVersion

    folder = tmp_path / "desk"
    shutil.copytree(promoted[0], folder, symlinks=True)
    views = folder / "features/fx.py"
    views.write_text(views.read_text().replace("1.0 + 0.1 *", "1.0 + 0.2 *"))
    with pytest.raises(IncompatibleVersion, match=r"order_vol 1\.0\.0 reads features of manifest"):
        bootstrap.open_service(folder, champion="order_vol")
