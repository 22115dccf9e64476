"""File and flash formats that both the rig and the virtual bench read: pure codecs, no I/O, no driver."""
