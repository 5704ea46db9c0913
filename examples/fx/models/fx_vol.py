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
    seeds=(1, 2),
    walk_forward=FOLDS,
    description="EWMA variance times a factor learned from the view's features (QLIKE loss).",
)
