"""Loads the fixtures of the rig; nothing else."""

pytest_plugins = ["rig.fixtures.plugin"]
