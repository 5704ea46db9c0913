"""The web console over the same API. Not built yet."""
