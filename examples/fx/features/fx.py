"""Daily features of currency pairs, one row per pair and session.

Source ``market``: ``mid`` is the reference rate, ``in_universe`` is true while the rule admits the
pair. Windows are sessions: 5 is a week, 20 a month, 60 a quarter, 250 a year.
"""

from assay.features import (
    FeatureView,
    Sessions,
    col,
    day_of_week,
    days_since_previous_row,
    month_end,
    month_start,
    quarter_end,
)

mid = col("mid")
ret_1 = mid.simple_return(1)
ret_5 = mid.simple_return(5)
ret_20 = mid.simple_return(20)

vol_5 = ret_1.rolling_std(5)
vol_10 = ret_1.rolling_std(10)
vol_20 = ret_1.rolling_std(20)
vol_60 = ret_1.rolling_std(60)
vol_250 = ret_1.rolling_std(250)

# RiskMetrics (1996): the variance of tomorrow is the weighted mean of past squared returns, decay
# 0.94.
# What lies beyond the horizon would weigh 0.94**256 = 1.3e-7. Powers of two need the fewest steps.
ewm_vol_94 = (ret_1 * ret_1).ewm_mean(alpha=0.06, horizon=256, min_count=20).sqrt()
ewm_vol_97 = (ret_1 * ret_1).ewm_mean(alpha=0.03, horizon=512, min_count=20).sqrt()

ewma_short = mid.ewm_mean(span=10, horizon=64)
ewma_long = mid.ewm_mean(span=50, horizon=256)

fx_daily = FeatureView(
    name="fx_daily",
    source="market",
    entity="instrument",
    features={
        "mid": mid,
        "ret_1": ret_1,
        "ret_2": mid.simple_return(2),
        "ret_5": ret_5,
        "ret_10": mid.simple_return(10),
        "ret_20": ret_20,
        "log_ret_1": mid.log_return(1),
        "abs_ret_1": ret_1.abs(),
        "ret_1_lag1": ret_1.lag(1),
        "ret_1_lag2": ret_1.lag(2),
        "ret_1_lag5": ret_1.lag(5),
        "vol_5": vol_5,
        "vol_10": vol_10,
        "vol_20": vol_20,
        "vol_60": vol_60,
        "vol_250": vol_250,
        "vol_20_lag1": vol_20.lag(1),
        "ewm_vol_94": ewm_vol_94,
        "ewm_vol_97": ewm_vol_97,
        "abs_ret_mean_20": ret_1.abs().rolling_mean(20),
        "vol_ratio_5_20": vol_5 / vol_20,
        "vol_ratio_20_60": vol_20 / vol_60,
        "vol_ratio_20_250": vol_20 / vol_250,
        "vol_ratio_94_97": ewm_vol_94 / ewm_vol_97,
        "high_vol_regime": vol_20 > 1.5 * vol_250,
        "zscore_20": mid.zscore(20),
        "zscore_60": mid.zscore(60),
        "ret_1_scaled": ret_1 / ewm_vol_94.lag(1),
        "ewma_short": ewma_short,
        "ewma_long": ewma_long,
        "momentum": ewma_short / ewma_long - 1.0,
        "above_low_60": mid / mid.rolling_min(60) - 1.0,
        "below_high_60": mid / mid.rolling_max(60) - 1.0,
        "above_low_250": mid / mid.rolling_min(250) - 1.0,
        "below_high_250": mid / mid.rolling_max(250) - 1.0,
        "ret_1_rank": ret_1.cs_rank(),
        "ret_5_rank": ret_5.cs_rank(),
        "ret_20_rank": ret_20.cs_rank(),
        "ret_1_demeaned": ret_1.cs_demean(),
        "ret_5_demeaned": ret_5.cs_demean(),
        "vol_20_rank": vol_20.cs_rank(),
        "vol_20_cs_z": vol_20.cs_zscore(),
        "is_monday": day_of_week().eq(0),
        "is_friday": day_of_week().eq(4),
        "is_month_start": month_start(),
        "is_month_end": month_end(),
        "is_quarter_end": quarter_end(),
        "days_since_previous": days_since_previous_row(),
    },
    ttl=Sessions(3),
    members="in_universe",
    timezone="Europe/Berlin",
    units={"mid": "rate"},
)
