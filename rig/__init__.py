"""Hardware-in-the-loop tests of CoAP over DTLS devices.

A plain library: it imports no pytest. The fixtures are in :mod:`rig.fixtures`, the reports in :mod:`rig.reports`.
"""

__version__ = "0.1.0"
