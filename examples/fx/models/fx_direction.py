"""Direction of each pair over the session after the next fix.

Daily FX direction is close to noise. This recipe exists to be judged honestly, and the gates are
expected to refuse it. Settings are modest, chosen before any result was seen, and not searched.
"""

from assay.training import Boosting, LabelDeclaration, Recipe, RiseProbability, WalkForward

# A price in yen and one in pounds do not compare, and a level names the pair and the year.
PRICE_LEVELS = ("mid", "ewma_short", "ewma_long")

direction = Recipe(
    name="fx_direction",
    kind="alpha_weights",
    view="fx_daily",
    # The fix behind the decision is already past: the first price to trade at is the next one.
    label=LabelDeclaration("log_return", horizon=1, entry=1),
    estimator=RiseProbability(Boosting(rounds=80, depth=3, learning_rate=0.06)),
    exclude=PRICE_LEVELS,
    seeds=(1, 2),
    walk_forward=WalkForward(folds=4, initial_share=0.4, embargo_days=7),
    description="Probability that the pair rises over the session after the next fix.",
)
