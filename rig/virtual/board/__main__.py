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
from rig.virtual.board.power_switch import PowerSwitch
from rig.virtual.board.uart import Uart
from rig.virtual.process import announce, die_with_parent

COAPS_PORT = 5684


async def serve(config: BoardConfig, flash: Flash) -> None:
    """Run the board until the process ends."""
    uart = Uart(config, lambda data: chip.receive(data), lambda dtr, rts: chip.set_lines(dtr, rts))
    chip = Chip(config, flash, uart)
    switch = PowerSwitch(config.flash.with_name(f"{config.flash.name}.power"), chip.supply.switch)
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    loop.set_exception_handler(lambda _, context: _fail(failed, context))
    die_with_parent(chip.kill_application)
    try:
        ports = uart.appear()
        await switch.listen()
        await chip.supply.connect()
        announce(
            name=config.name,
            console=ports[config.ports[0]],
            address=config.address,
            coaps_port=COAPS_PORT,
            power=str(switch.path),
            **ports,
        )
        await failed
    finally:
        chip.close()
        uart.vanish()
        switch.close()


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
        with Flash(config.flash, stuck_at=config.stuck_at) as flash:
            asyncio.run(serve(config, flash))
    except RigError as error:
        print(f"virtual board: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
