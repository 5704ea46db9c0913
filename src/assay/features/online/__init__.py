"""Features event by event.

1. :mod:`~assay.features.online.driver` - pushes single events or micro-batches through the one
   kernel; closes the barrier of an event time for features across entities.
2. :mod:`~assay.features.online.checkpoint` - what a driver remembers, as bytes that refuse another
   manifest.
"""

from assay.features.online.driver import FeatureRow, OnlineDriver

__all__ = ["FeatureRow", "OnlineDriver"]
