"""Direction of each pair over the session after the next fix.

Daily FX direction is close to noise. This recipe exists to be judged honestly, and the gates are
expected to refuse it. Settings are modest, chosen before any result was seen, and not searched.
"""

from assay.training import Boosting, LabelDeclaration, Recipe, RiseProbability, WalkForward

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

direction = Recipe(
    name="fx_direction",
    kind="alpha_weights",
    view="fx_daily",
    # The fix behind the decision is already past: the first price to trade at is the next one.
    label=LabelDeclaration("log_return", horizon=1, entry=1),
    estimator=RiseProbability(Boosting(rounds=80, depth=3, learning_rate=0.06)),
    exclude=PRICE_LEVELS,
    groups=GROUPS,
    seeds=(1, 2),
    walk_forward=WalkForward(folds=4, initial_share=0.4, embargo_days=7),
    description="Probability that the pair rises over the session after the next fix.",
)
