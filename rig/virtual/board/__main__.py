"""One virtual board: ``python -m rig.virtual.board --config FILE.json``."""

import argparse
import asyncio
import resource
import sys
from pathlib import Path

from rig.errors import RigError
from rig.virtual.board.chip import Chip
from rig.virtual.board.config import BoardConfig, read_config
from rig.virtual.board.flash import Flash
from rig.virtual.board.uart import Uart
from rig.virtual.process import announce, die_with_parent

COAPS_PORT = 5684


async def serve(config: BoardConfig, flash: Flash) -> None:
    """Run the board until the process ends."""
    uart = Uart(on_data=lambda data: chip.receive(data), on_lines=lambda dtr, rts: chip.set_lines(dtr, rts))
    chip = Chip(config, flash, uart.send)
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    loop.set_exception_handler(lambda _, context: _fail(failed, context))
    die_with_parent(chip.kill_application)
    try:
        port = await uart.listen()
        await chip.supply.switch_on()
        announce(
            name=config.name,
            console=f"rfc2217://127.0.0.1:{port}",
            address=config.address,
            coaps_port=COAPS_PORT,
        )
        await failed
    finally:
        uart.close()
        chip.close()


def _fail(failed: asyncio.Future[None], context: dict[str, object]) -> None:
    """A board with a broken part stops: half a board would give wrong verdicts."""
    error = context.get("exception")
    if not failed.done():
        failed.set_exception(error if isinstance(error, Exception) else RuntimeError(context["message"]))


def main() -> int:
    """Run the process and return its exit code."""
    parser = argparse.ArgumentParser(prog="rig.virtual.board")
    parser.add_argument("--config", type=Path, required=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crashing application leaves a panic text, not a core file
    try:
        config = read_config(parser.parse_args().config)
        with Flash(config.flash) as flash:
            asyncio.run(serve(config, flash))
    except RigError as error:
        print(f"virtual board: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
