"""aiocoap's server over tinydtls as a device on the network: HOST IDENTITY KEY. tinydtls.yaml declares it."""

import asyncio
import os
import sys
from typing import Any

import aiocoap
from aiocoap import resource
from aiocoap.credentials import CredentialsMap
from aiocoap.error import PreconditionFailed


def refuse_if_match(request: Any) -> None:
    """Refuse a request that names ETags: nothing here has one (RFC 7252 5.10.8.1, which aiocoap leaves to us)."""
    if request.opt.if_match:
        raise PreconditionFailed


class Value(resource.ObservableResource):  # type: ignore[misc]
    """A text that PUT changes and that can be observed."""

    def __init__(self) -> None:
        super().__init__()
        self._value = b"one"

    async def render_get(self, request: Any) -> Any:
        """Return the text."""
        del request
        return aiocoap.Message(payload=self._value)

    async def render_put(self, request: Any) -> Any:
        """Take another text."""
        refuse_if_match(request)
        self._value = request.payload
        self.updated_state()
        return aiocoap.Message(code=aiocoap.CHANGED)


class Block(resource.Resource):  # type: ignore[misc]
    """A body of several blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._body = bytes(range(256)) * 8

    async def render_get(self, request: Any) -> Any:
        """Return the body."""
        del request
        return aiocoap.Message(payload=self._body)

    async def render_put(self, request: Any) -> Any:
        """Take another body."""
        refuse_if_match(request)
        self._body = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED, payload=b"%d" % len(request.payload))


async def main(host: str, identity: str, key: str) -> None:
    """Serve until the process ends."""
    site = resource.Site()
    site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader))
    site.add_resource(["value"], Value())
    site.add_resource(["block"], Block())
    credentials = CredentialsMap()
    credentials.load_from_dict({":client": {"dtls": {"psk": key.encode(), "client-identity": identity.encode()}}})
    await aiocoap.Context.create_server_context(
        site, bind=(host, None), transports=["tinydtls_server"], server_credentials=credentials
    )
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    os.environ["AIOCOAP_DTLSSERVER_ENABLED"] = "1"
    asyncio.run(main(*sys.argv[1:]))
