"""DTLS 1.2 and CoAP codecs without I/O: bytes to values and back. No socket is known here."""
