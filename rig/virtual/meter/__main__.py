"""``python -m rig.virtual.meter --config FILE.json``: run one virtual meter until standard input closes.

The file has: name, model (the name of the rig's driver), accuracy (path of the accuracy document), supply (unix
seqpacket path to listen on), seed, serial, supply_voltage_v and, where wanted, oddities. The announced line has: name,
and where the meter answers: visa or port.
"""

import argparse
import json
import threading
from pathlib import Path

from rig.virtual.meter.bench import VirtualMeter
from rig.virtual.process import announce, die_with_parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rig.virtual.meter", description="One virtual bench meter")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE.json")
    config = json.loads(parser.parse_args().config.read_text(encoding="utf-8"))
    meter = VirtualMeter(
        model=str(config["model"]),
        accuracy=Path(config["accuracy"]),
        supply=Path(config["supply"]),
        seed=int(config["seed"]),
        serial=str(config["serial"]),
        supply_voltage_v=float(config["supply_voltage_v"]),
        oddities=config.get("oddities", {}),
    )
    meter.start()
    die_with_parent(meter.close)
    announce(name=config["name"], **meter.facts)
    threading.Event().wait()


if __name__ == "__main__":
    main()
