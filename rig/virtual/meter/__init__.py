"""The virtual meters: instruments that answer on the wire as the real ones do, each family with its oddities.

They speak two wires: SCPI over TCP (or a serial protocol on a pty) to whoever measures, and the supply wire (a unix
seqpacket socket) to the board that they feed. Their errors are drawn, with a seed, from accuracy documents of their
own. ``models`` lists them and tells how to add one.
"""
