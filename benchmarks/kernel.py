"""The kernel beside Polars' rolling expressions, single events, micro-batches and long windows.

The program is the view of examples/fx, widened to 50 features. Offline it runs over a million rows:
10 pairs with 100,000 hourly rows each. The reference computes 50 columns of equal meaning with
Polars expressions, pair by pair with both threads, the cross-sections over all pairs. Single events
and micro-batches use the features that need no other pair, widened to 50 as well.
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from assay.features import FeatureView, OfflineDriver, OnlineDriver, Sessions, TimeWindow, col

FX = Path(__file__).parent.parent / "examples" / "fx" / "features" / "fx.py"
ENTITIES, ROWS, FEATURES = 10, 100_000, 50
HOUR = 3_600 * 10**9
START = 1_000_000_000 * 10**9
EVENTS, BATCH = 5_000, 100
MID = col("mid")


def fx_view() -> FeatureView:
    """The view of the example with as many more features as make it 50."""
    view: FeatureView = runpy.run_path(str(FX))["fx_daily"]
    more = {"ret_3": MID.simple_return(3), "mean_20": MID.rolling_mean(20)}
    features = dict(list({**view.features, **more}.items())[:FEATURES])
    return FeatureView(
        "fx_wide", "market", "instrument", features, Sessions(3), view.members, view.timezone
    )


def single_view() -> FeatureView:
    """50 features of the same kinds, none of which waits for another pair."""
    view = fx_view()
    across = set(view.plan.second.outputs) if view.plan.second is not None else set()
    own = {name: item for name, item in view.features.items() if name not in across}
    change = MID.simple_return(1)
    for rows in (2, 3, 4, 5, 10, 20, 30, 40, 50, 120):
        own[f"extra_{rows}"] = change.rolling_std(rows) if rows % 4 else change.rolling_mean(rows)
    features = dict(list(own.items())[:FEATURES])
    return FeatureView("fx_own", "market", "instrument", features, Sessions(3), None, view.timezone)


def market() -> pl.DataFrame:
    generator = np.random.default_rng(20_260_101)
    times = np.tile(np.arange(ROWS, dtype=np.int64) * HOUR + START, ENTITIES)
    steps = generator.normal(0, 0.001, (ENTITIES, ROWS))
    return pl.DataFrame(
        {
            "instrument": pl.Series([f"P{n}" for n in range(ENTITIES) for _ in range(ROWS)]),
            "event_time": times,
            "known_time": times + HOUR,
            "source_rank": np.zeros(times.size, dtype=np.int64),
            "sequence": np.arange(times.size),
            "mid": (np.arange(1, ENTITIES + 1)[:, None] * np.exp(np.cumsum(steps, axis=1))).ravel(),
            "in_universe": np.ones(times.size, dtype=bool),
        }
    )


def with_polars(frame: pl.DataFrame) -> pl.DataFrame:
    """50 columns of the same meaning, each common part computed once as well."""
    m, r = pl.col("mid"), pl.col("ret_1")
    local = pl.from_epoch("event_time", time_unit="ns").dt.replace_time_zone("UTC")
    parts = [
        part.lazy()
        .with_columns(
            ret_1=m.pct_change(),
            local=local.dt.convert_time_zone("Europe/Berlin").dt.date(),
            **{f"ret_{n}": m.pct_change(n) for n in (2, 3, 5, 10, 20)},
        )
        .with_columns(
            log_ret_1=(m / m.shift()).log(),
            abs_ret_1=r.abs(),
            **{f"ret_1_lag{n}": r.shift(n) for n in (1, 2, 5)},
            **{f"vol_{n}": r.rolling_std(n) for n in (5, 10, 20, 60, 250)},
            ewm_vol_94=(r * r).ewm_mean(alpha=0.06, min_samples=20).sqrt(),
            ewm_vol_97=(r * r).ewm_mean(alpha=0.03, min_samples=20).sqrt(),
            abs_ret_mean_20=r.abs().rolling_mean(20),
            zscore_20=(m - m.rolling_mean(20)) / m.rolling_std(20),
            zscore_60=(m - m.rolling_mean(60)) / m.rolling_std(60),
            mean_20=m.rolling_mean(20),
            ewma_short=m.ewm_mean(span=10),
            ewma_long=m.ewm_mean(span=50),
            above_low_60=m / m.rolling_min(60) - 1,
            below_high_60=m / m.rolling_max(60) - 1,
            above_low_250=m / m.rolling_min(250) - 1,
            below_high_250=m / m.rolling_max(250) - 1,
            month=pl.col("local").dt.month(),
            weekday=pl.col("local").dt.weekday(),
            month_start=pl.col("local").dt.month_start(),
            month_end=pl.col("local").dt.month_end(),
            days=(pl.col("local") - pl.col("local").shift()).dt.total_days().cast(pl.Float64),
        )
        .with_columns(
            vol_20_lag1=pl.col("vol_20").shift(),
            vol_ratio_5_20=pl.col("vol_5") / pl.col("vol_20"),
            vol_ratio_20_60=pl.col("vol_20") / pl.col("vol_60"),
            vol_ratio_20_250=pl.col("vol_20") / pl.col("vol_250"),
            vol_ratio_94_97=pl.col("ewm_vol_94") / pl.col("ewm_vol_97"),
            high_vol_regime=(pl.col("vol_20") > 1.5 * pl.col("vol_250")).cast(pl.Float64),
            ret_1_scaled=r / pl.col("ewm_vol_94").shift(),
            momentum=pl.col("ewma_short") / pl.col("ewma_long") - 1,
            is_monday=(pl.col("weekday") == 1).cast(pl.Float64),
            is_friday=(pl.col("weekday") == 5).cast(pl.Float64),
            is_month_start=(pl.col("local") == pl.col("month_start")).cast(pl.Float64),
            is_month_end=(pl.col("local") == pl.col("month_end")).cast(pl.Float64),
            is_quarter_end=(
                (pl.col("local") == pl.col("month_end")) & (pl.col("month") % 3 == 0)
            ).cast(pl.Float64),
        )
        for part in frame.partition_by("instrument", maintain_order=True)
    ]
    v = pl.col("vol_20")
    return pl.concat(pl.collect_all(parts)).with_columns(
        *(
            (pl.col(name).rank() / pl.col(name).count()).over("event_time").alias(f"{name}_rank")
            for name in ("ret_1", "ret_5", "ret_20", "vol_20")
        ),
        ret_1_demeaned=r - r.mean().over("event_time"),
        ret_5_demeaned=pl.col("ret_5") - pl.col("ret_5").mean().over("event_time"),
        vol_20_cs_z=(v - v.mean().over("event_time")) / v.std().over("event_time"),
    )


def best(times: int, work: Callable[[], Any]) -> float:
    """The least seconds of several runs."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def row(name: str, unit: str, ours: float, reference: float | None, target: str, met: bool) -> dict:
    ratio = None if reference is None else ours / reference
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "target": target,
        "met": met,
    }


def offline() -> list[dict]:
    view, frame = fx_view(), market()
    driver, values = OfflineDriver(view), ENTITIES * ROWS * FEATURES / 1e6
    driver.run(frame[:1_000])
    rates = {"ours": 0.0, "polars": 0.0}
    for _ in range(2):  # side by side, so that a busy machine is busy for both
        rates["ours"] = max(rates["ours"], values / best(1, lambda: driver.run(frame, workers=2)))
        rates["polars"] = max(rates["polars"], values / best(1, lambda: with_polars(frame)))
    ours, reference = rates["ours"], rates["polars"]
    name = "offline, 50 features over 1M rows, 2 threads; reference: Polars expressions"
    return [row(name, "M values/s", ours, reference, ">= 1x, goal 2x", ours >= reference)]


def prices(count: int) -> np.ndarray:
    return 1.1 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.001, count)))


def warmed(view: FeatureView) -> OnlineDriver:
    """A driver whose windows are full."""
    count = view.look_back + 10
    rows = np.arange(count, dtype=np.int64)
    driver = OnlineDriver(view)
    driver.warm_up(
        pl.DataFrame(
            {
                "instrument": ["P0"] * count,
                "event_time": rows * HOUR,
                "known_time": rows * HOUR,
                "source_rank": rows * 0,
                "sequence": rows,
                "mid": prices(count),
            }
        )
    )
    return driver


def per_event(view: FeatureView) -> float:
    """Seconds for one event, the Python call included."""
    driver, values = warmed(view), [np.array([price]) for price in prices(EVENTS)]
    moment = START

    def push_all() -> None:
        nonlocal moment
        push = driver.push
        for value in values:
            moment += 60 * 10**9
            push("P0", moment, moment, value)

    return best(7, push_all) / EVENTS


def events_per_second(view: FeatureView) -> float:
    driver, moment = warmed(view), START
    values = prices(BATCH).reshape(1, -1)
    names = ["P0"] * BATCH

    def push_batches() -> None:
        nonlocal moment
        for _ in range(30):
            times = moment + np.arange(1, BATCH + 1, dtype=np.int64) * 60 * 10**9
            moment = int(times[-1])
            driver.push_many(names, times, times, values)

    return 30 * BATCH / best(7, push_batches)


def window_view(window: int, extremes: bool) -> FeatureView:
    features = (
        {"low": MID.rolling_min(window), "high": MID.rolling_max(window)}
        if extremes
        else {"mean": MID.rolling_mean(window), "z": MID.zscore(window)}
    )
    return FeatureView("windows", "market", "instrument", features, Sessions(1))


def windows() -> list[dict]:
    found = []
    for name, extremes, limit in (("moments", False, 2.0), ("minimum, maximum", True, 6.0)):
        short, long = (per_event(window_view(n, extremes)) * 1e6 for n in (20, 10_000))
        title = f"{name}: window of 10,000 beside 20, one event"
        found.append(row(title, "us", long, short, f"<= {limit:g}x", long <= limit * short))
        frame = market().filter(pl.col("instrument") == "P0")
        drivers = [OfflineDriver(window_view(n, extremes)) for n in (20, 10_000)]
        short, long = (best(3, partial(driver.run, frame)) / ROWS * 1e9 for driver in drivers)
        title = f"{name}: window of 10,000 beside 20, history"
        found.append(row(title, "ns/row", long, short, f"<= {limit:g}x", long <= limit * short))
    return found


def ordered_windows() -> list[dict]:
    """Order statistics at 10,000 rows beside 20; the cost of the driver alone is included."""
    found, frame = [], market().filter(pl.col("instrument") == "P0")
    for name, features in {
        "median": {n: MID.rolling_median(n) for n in (10_000, 20)},
        "quantile": {n: MID.rolling_quantile(n, 0.1) for n in (10_000, 20)},
        "maximum over time": {
            n: MID.rolling_max(TimeWindow(n * HOUR, max_rows=n)) for n in (10_000, 20)
        },
    }.items():
        views = [
            FeatureView("ordered", "market", "instrument", {"f": feature}, Sessions(1))
            for feature in features.values()
        ]
        long, short = (per_event(view) * 1e6 for view in views)
        title = f"{name}: window of 10,000 beside 20, one event"
        found.append(row(title, "us", long, short, "<= 6x", long <= 6 * short))
        drivers = [OfflineDriver(view) for view in views]
        long, short = (best(3, partial(driver.run, frame)) / ROWS * 1e9 for driver in drivers)
        title = f"{name}: window of 10,000 beside 20, history"
        found.append(row(title, "ns/row", long, short, "<= 6x", long <= 6 * short))
    return found


def rows() -> list[dict]:
    view = single_view()
    event = per_event(view) * 1e6
    batch = events_per_second(view) / 1e3
    return [
        *offline(),
        row("one event, 50 features, with the Python call", "us", event, None, "<= 5", event <= 5),
        row("micro-batches of 100, one core", "k events/s", batch, None, ">= 250", batch >= 250),
        *windows(),
        *ordered_windows(),
    ]
