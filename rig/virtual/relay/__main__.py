"""``python -m rig.virtual.relay --config FILE.json`` with ``{"name": ..., "host": "127.a.b.c"}``.

For a faulty board also ``board_rules``, a list of rules, and ``psks``, which open what they look into.
"""

import argparse
import json
import signal
from pathlib import Path

from rig.formats.packet_rule import read_psks, read_rules
from rig.virtual.process import announce, die_with_parent
from rig.virtual.relay.control import Control
from rig.virtual.relay.forwarding import Forwarding
from rig.virtual.relay.reactor import Reactor
from rig.virtual.relay.recorder import Recorder, WallClock


def main() -> None:
    """Relay until the parent closes standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see above")
    config = json.loads(parser.parse_args().config.read_text())
    # Ctrl-C reaches the whole group; the rig still needs the relay to take its impairments back.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Reactor() as reactor:
        clock = WallClock()
        recorder = Recorder(reactor, clock)
        forwarding = Forwarding(config["host"], reactor, recorder)
        forwarding.board_rules.configure(read_rules(config.get("board_rules", [])), read_psks(config.get("psks", {})))
        control = Control(config["name"], reactor, forwarding, recorder, clock)
        die_with_parent(lambda: None)
        host, port = control.listener.getsockname()
        announce(name=config["name"], control=f"{host}:{port}")
        while True:
            reactor.run_once(forwarding.wait_s)
            forwarding.release()
            recorder.flush()


if __name__ == "__main__":
    main()
