"""What the lake's tables of a desk are called."""

from __future__ import annotations

from assay.features import FeatureView


def gold_table(view: FeatureView) -> str:
    """The lake's name for a view's gold table."""
    return f"gold/{view.name}"
