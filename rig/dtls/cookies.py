"""A server's cookies (RFC 6347 section 4.2.1): bound to address and ClientHello, and no state is kept for them."""

import hmac
import secrets
from dataclasses import replace

from rig.dtls.handshake import ClientHello
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.session import Endpoint

_COOKIE_BYTES = 20
_LONGEST_BYTES = 255


class Cookies:
    """Makes cookies and knows them again. The secret is this object's."""

    def __init__(self, misbehaviour: Misbehaviour) -> None:
        self._misbehaviour = misbehaviour
        self._secret = bytes(32) if misbehaviour.cookie_secret_fixed else secrets.token_bytes(32)

    def make(self, peer: Endpoint, hello: ClientHello) -> bytes:
        """Return the cookie for *peer* and *hello*.

        Of the hello RFC 6347 counts version, random, session id, suites and compression: not the cookie that it has
        already, and not its extensions, which GnuTLS 3.8 sends in another order each time.
        """
        wrong = self._misbehaviour
        address = b"" if wrong.cookie_ignores_address or wrong.constant_cookie else repr(peer).encode()
        counted = replace(hello, cookie=b"", extensions=None).encode()
        said = b"" if wrong.cookie_ignores_hello or wrong.constant_cookie else counted
        cookie = hmac.digest(self._secret, len(address).to_bytes(4, "big") + address + said, "sha256")[:_COOKIE_BYTES]
        return cookie.ljust(_LONGEST_BYTES, b"\0") if wrong.cookie_of_255_bytes else cookie

    def prove(self, peer: Endpoint, hello: ClientHello) -> bool:
        """Whether *hello* brings the cookie back that it was given."""
        return self._misbehaviour.no_cookie or hmac.compare_digest(hello.cookie, self.make(peer, hello))
