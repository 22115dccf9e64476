"""The virtual meter: an SCPI server on a TCP socket that behaves like a Keysight 34465A in its DC current function.

It speaks two wires: SCPI over TCP to whoever measures, and the supply wire (a unix seqpacket socket) to the board
that it feeds. Its errors are drawn, with a seed, from an accuracy document of its own.
"""
