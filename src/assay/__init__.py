"""Assay: features served live are the features trained on, and the model in production is proven.

The names a user types come from the packages below this one (``assay.features``,
``assay.registry``, ``assay.training``, ...); nothing inside Assay imports this module.
"""

from __future__ import annotations

__version__ = "0.1.0"
