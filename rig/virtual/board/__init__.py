"""The virtual board: an ESP32-C3 behind an RFC 2217 port, as a process of its own (``python -m rig.virtual.board``)."""
