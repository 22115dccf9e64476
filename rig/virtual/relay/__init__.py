"""The virtual bench's router: a userspace UDP relay that impairs packets with netem's parameters, per direction.

Run it as ``python -m rig.virtual.relay --config FILE.json``.
"""
