"""The virtual bench: processes that speak the wire protocols of a real board, meter and router, and nothing else.

Nothing here is imported by the rig's drivers, and nothing here imports one: they meet at sockets. Codecs
(:mod:`rig.formats`, :mod:`rig.dtls`) are the only thing both sides share.
"""
