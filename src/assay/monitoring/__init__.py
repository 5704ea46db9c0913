"""Drift, freshness, performance, metrics and alerts. Not built yet."""
