"""Property tests judge what code does, never how long a busy machine took to do it."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
