"""Volatility of each pair over the next session, fix to fix.

The champion to beat is the EWMA volatility that every desk already has; it is a recipe of its own,
so that it is registered, served and judged like anything else. The challenger corrects that
forecast with trees. Settings are modest, chosen before any result was seen, and not searched.
"""

from assay.training import (
    Baseline,
    Boosting,
    LabelDeclaration,
    Recipe,
    VarianceCorrection,
    WalkForward,
)

# A price in yen and one in pounds do not compare, and a level names the pair and the year.
PRICE_LEVELS = ("mid", "ewma_short", "ewma_long")

# Left out together, to see what they are worth.
GROUPS = {
    "returns": (
        "ret_1", "ret_2", "ret_5", "ret_10", "ret_20", "log_ret_1", "abs_ret_1", "ret_1_lag1",
        "ret_1_lag2", "ret_1_lag5", "ret_1_scaled",
    ),
    "volatility": (
        "vol_5", "vol_10", "vol_20", "vol_60", "vol_250", "vol_20_lag1", "ewm_vol_94", "ewm_vol_97",
        "abs_ret_mean_20", "vol_ratio_5_20", "vol_ratio_20_60", "vol_ratio_20_250",
        "vol_ratio_94_97", "high_vol_regime",
    ),
    "price_location": (
        "zscore_20", "zscore_60", "momentum", "above_low_60", "below_high_60", "above_low_250",
        "below_high_250",
    ),
    "cross_section": (
        "ret_1_rank", "ret_5_rank", "ret_20_rank", "ret_1_demeaned", "ret_5_demeaned",
        "vol_20_rank", "vol_20_cs_z",
    ),
    "calendar": (
        "is_monday", "is_friday", "is_month_start", "is_month_end", "is_quarter_end",
        "days_since_previous",
    ),
}  # fmt: skip

# From the last fix known at the decision to the one after it.
NEXT_SESSION_VARIANCE = LabelDeclaration("squared_log_return", horizon=1, entry=0)

FOLDS = WalkForward(folds=4, initial_share=0.4, embargo_days=7)

baseline = Recipe(
    name="fx_vol_baseline",
    model="fx_vol",
    kind="risk_model",
    view="fx_daily",
    label=NEXT_SESSION_VARIANCE,
    estimator=Baseline("ewm_vol_94"),
    walk_forward=FOLDS,
    description="EWMA volatility with decay 0.94, as it stands: the forecast to beat.",
)

learned = Recipe(
    name="fx_vol",
    kind="risk_model",
    view="fx_daily",
    label=NEXT_SESSION_VARIANCE,
    estimator=VarianceCorrection(
        "ewm_vol_94",
        learner=Boosting(rounds=80, depth=3, learning_rate=0.06),
    ),
    exclude=PRICE_LEVELS,
    groups=GROUPS,
    seeds=(1, 2),
    walk_forward=FOLDS,
    description="EWMA variance times a factor learned from the view's features (QLIKE loss).",
)
