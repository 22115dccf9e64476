"""What all tests share: no test has a limit of time, drawn examples included."""

from hypothesis import settings

settings.register_profile("rig", deadline=None)
settings.load_profile("rig")
