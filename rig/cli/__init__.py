"""The ``rig`` command."""
