"""``python -m rig.virtual.device --config FILE.json``: a scripted device until standard input closes."""

import argparse
import signal
from pathlib import Path

from rig.virtual.device.process import COAPS_PORT, Process, load_config
from rig.virtual.process import announce, die_with_parent


def main() -> None:
    """Serve until the parent closes standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON: name, address, identity, psk, switches")
    config = load_config(parser.parse_args().config)
    # Ctrl-C reaches the whole group; the rig still needs the device to leave in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = Process(config)
    die_with_parent(lambda: None)
    announce(name=config.name, host=config.address, port=COAPS_PORT)
    while True:
        process.run_once()


if __name__ == "__main__":
    main()
