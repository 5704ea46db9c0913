"""Real backends behind the ports, one folder and one extra per vendor.

1. :mod:`~assay.adapters.delta` - offline stores as Delta Lake tables (extra ``delta``).
"""
