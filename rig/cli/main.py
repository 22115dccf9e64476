"""``rig``: the command line. Each subcommand is a function in a module beside this one.

Exit codes: 0 every verdict is met; 1 the device does not meet a requirement; 2 the bench failed or a file or an
argument is wrong; 3 nothing failed, but a requirement has no verdict; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rig.cli.interruption import INTERRUPTION
from rig.errors import RigError

EXIT_CODES = __doc__.split("\n\n", 1)[1] if __doc__ else ""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="rig", description="Hardware-in-the-loop tests of CoAP over DTLS devices.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("demo", help="run the demo plan on a virtual bench"), bench=False)
    _add_run(commands.add_parser("run", help="run a plan on a bench"), bench=True)

    report = commands.add_parser("report", help="write the reports of a run again from its record")
    report.add_argument("run", type=Path, help="the run's folder")
    _add_json(report)

    doctor = commands.add_parser("doctor", help="check the bench part by part, and say how to mend what is wrong")
    doctor.add_argument("--bench", type=Path, help="bench file (default: a virtual bench)")
    _add_json(doctor)

    fuses = commands.add_parser("fuses", help="read the security fuses of boards; nothing is burnt")
    where = fuses.add_mutually_exclusive_group(required=True)
    where.add_argument("--bench", type=Path, help="bench file")
    where.add_argument("--port", metavar="URL", help="a serial port: device path, rfc2217://, socket://")
    fuses.add_argument("--board", metavar="NAME", help="one board of the bench file (default: all with a port)")
    _add_json(fuses)

    flash = commands.add_parser("flash", help="flash and provision the boards of a bench; only what differs is written")
    flash.add_argument("--bench", type=Path, default=Path("bench.yaml"), metavar="FILE")
    flash.add_argument("--board", metavar="NAME", help="one board of the bench file (default: all that have firmware)")
    flash.add_argument("--mode", choices=("auto", "always"), default="auto", help="always: write all (default: auto)")
    _add_json(flash)

    bench = commands.add_parser("bench", help="print a bench file as it was understood")
    bench.add_argument("file", type=Path, nargs="?", default=Path("bench.yaml"))
    _add_json(bench)

    declare = commands.add_parser("declare", help="draft dut.yaml, the maker's declaration, from what a device answers")
    declare.add_argument("--bench", type=Path, metavar="FILE", help="bench file (default: a virtual bench)")
    declare.add_argument("--board", metavar="NAME", help="board of the bench file (default: the first)")
    declare.add_argument("--out", type=Path, metavar="FILE", help="write the draft there (default: print it)")
    _add_json(declare)

    capture = commands.add_parser("capture", help="record a board's current with a meter of a bench file")
    _add_capture(capture)
    _add_json(capture)

    energy = commands.add_parser("energy", help="charge, energy and statistics of the phases of a recorded current")
    energy.add_argument("file", type=Path, metavar="FILE", help="a recording (.f32), or a Joulescope's (.jls)")
    _add_phases(energy, "the whole capture, and what the changes of level divide it into")
    energy.add_argument("--voltage", type=float, metavar="V", help="of the supply, where none was measured")
    energy.add_argument("--plot", type=Path, metavar="FILE.html", help="draw the current and its phases there")
    _add_json(energy)

    export = commands.add_parser("export", help="write a recorded current for other programs")
    export.add_argument("file", type=Path, metavar="FILE", help="a recording (.f32), or a Joulescope's (.jls)")
    export.add_argument("--format", choices=("jls", "parquet", "csv"), required=True)
    export.add_argument("--out", type=Path, metavar="FILE", help="(default: beside the recording)")
    _add_phases(export, "none; they become annotations of a JLS file")
    _add_json(export)

    image = commands.add_parser(
        "image", help="explain a firmware image, a partition or a whole flash, and what is wrong"
    )
    image.add_argument("file", type=Path, help="image, partition table (.bin or .csv), merged image or build directory")
    _add_json(image)

    requirements = commands.add_parser("requirements", help="list the requirement catalogue and its tests")
    _add_filters(requirements)
    _add_json(requirements)

    faults = commands.add_parser("faults", help="list the faulty devices of the virtual bench, or run the plan on them")
    faults.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all, and the healthy carriers)")
    faults.add_argument("--run", action="store_true", help="run the full plan against each, and show what turns red")
    faults.add_argument("--own", action="store_true", help="judge only each fault's own requirements and the sentinels")
    faults.add_argument("-j", dest="jobs", type=int, default=2, metavar="N", help="runs at a time (default: 2)")
    faults.add_argument("--runs", type=Path, metavar="DIR", help="keep the records of the runs there")
    faults.add_argument("--out", type=Path, metavar="FILE", help="write the matrix as Markdown")
    _add_json(faults)

    virtual = commands.add_parser("virtual", help="keep a virtual bench running until Ctrl-C")
    virtual.add_argument("--boards", type=int, default=1, metavar="N")
    virtual.add_argument("--dir", type=Path, required=True, help="folder for bench.yaml and endpoints.json")
    virtual.add_argument("--fault", metavar="NAME", help="faulty device (see `rig faults`)")
    _add_carrier(virtual)
    _add_meter(virtual)
    virtual.add_argument("--blank", action="store_true", help="leave the boards' flash empty")
    _add_json(virtual)
    return parser


def _add_capture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="FILE.f32", help="the recording; what describes it stands beside it")
    parser.add_argument("--bench", type=Path, default=Path("bench.yaml"), metavar="FILE")
    parser.add_argument("--meter", metavar="NAME", help="meter of the bench file (default: the first)")
    parser.add_argument("--seconds", type=float, metavar="S", help="after the trigger (default: until Ctrl-C)")
    parser.add_argument("--before", type=float, default=0.0, metavar="S", help="seconds before the trigger as well")
    parser.add_argument(
        "--range",
        metavar="A",
        help="in ampere, or auto (default: auto where the meter can, else one on which a board can wake)",
    )
    parser.add_argument("--interval", type=float, metavar="S", help="between samples (default: the meter's shortest)")
    parser.add_argument(
        "--trigger",
        default="immediate",
        metavar="WHAT",
        help="immediate, rising or falling (of the trigger input), above:AMPERE, below:AMPERE (default: immediate)",
    )
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="for the trigger to come (default: 60)"
    )


def _add_run(parser: argparse.ArgumentParser, *, bench: bool) -> None:
    if bench:
        parser.add_argument("plan", nargs="?", default="demo", help="name of a plan, or a plan file (default: demo)")
        parser.add_argument("--bench", type=Path, help="bench file (default: a virtual bench)")
    parser.add_argument("--fault", metavar="NAME", help="faulty device for the virtual bench (see `rig faults`)")
    _add_carrier(parser)
    _add_meter(parser)
    parser.add_argument("--run-dir", type=Path, help="folder of the run record (default: runs/<time>)")
    parser.add_argument("--flash", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--limits", type=Path, help="limits file (default: the test plans' own)")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="earlier run to compare the measurements with")
    parser.add_argument("--usage", type=Path, help="usage profile for a battery life beside those of the shipped ones")
    parser.add_argument("--profile", choices=("lab", "release"), default="lab", help="how fuses and images are judged")
    parser.add_argument("--only", metavar="ID,ID", help="run only the tests that verify one of these requirements")
    parser.add_argument("-k", dest="keyword", metavar="EXPRESSION", help="run only tests whose names match")
    parser.add_argument("-n", dest="jobs", type=int, default=1, metavar="N", help="boards at a time (default: 1)")
    _add_json(parser)


def _add_carrier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--carrier",
        choices=("firmware", "small-firmware", "device"),
        help="what the virtual bench has for a board: the firmware (default), one that holds 8 sessions, or a scripted "
        "network device",
    )


def _add_meter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--meter",
        metavar="DRIVER",
        help="driver of the instruments that measure the virtual bench's boards (default: keysight-34465a; an unknown "
        "one is answered with the list)",
    )


def _add_phases(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument(
        "--phase",
        action="append",
        default=[],
        metavar="NAME=START..END",
        help=f"a stretch in seconds after the first sample; may be given several times (default: {otherwise})",
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="only rows that have every word in one of their texts")
    parser.add_argument("--area", help="only ids with these letters, such as PSK")
    parser.add_argument("--level", help="MUST, SHOULD, policy or report")
    parser.add_argument("--standard", help="only evidence for this one: etsi, en18031, nist or hipaa")
    covered = parser.add_mutually_exclusive_group()
    covered.add_argument("--tested", action="store_true", help="only rows that a test verifies")
    covered.add_argument("--untested", action="store_true", help="only rows that no test verifies")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object for machines")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the rig are one sentence on stderr and exit code 2."""
    options = build_parser().parse_args(arguments)
    # A terminated rig leaves its context managers as an interrupted one does.
    INTERRUPTION.install()
    try:
        return _dispatch(options)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rig: interrupted", file=sys.stderr)
        return 130


def _dispatch(options: argparse.Namespace) -> int:
    """Import and call what the subcommand needs, and no more."""
    match options.command:
        case "demo":
            from rig.cli import run

            return run.run_plan("demo", options, bench_file=None)
        case "run":
            from rig.cli import run

            return run.run_plan(options.plan, options, bench_file=options.bench)
        case "report":
            from rig.cli import commands

            return commands.report(options.run, as_json=options.json)
        case "doctor":
            from rig.cli import commands

            return commands.doctor(options.bench, as_json=options.json)
        case "fuses":
            from rig.cli.fuses import show_fuses

            return show_fuses(options.bench, options.board, options.port, as_json=options.json)
        case "flash":
            from rig.cli.flashing import flash_bench

            return flash_bench(options.bench, options.board, options.mode, as_json=options.json)
        case "bench":
            from rig.cli import commands

            return commands.show_bench(options.file, as_json=options.json)
        case "declare":
            from rig.cli.declare import declare

            return declare(options.bench, options.board, options.out, as_json=options.json)
        case "capture":
            from rig.cli.capture import capture_current

            return capture_current(options)
        case "energy":
            from rig.cli.energy import show_energy

            return show_energy(options)
        case "export":
            from rig.cli.energy import export

            return export(options)
        case "image":
            from rig.cli import image

            return image.show(options.file, as_json=options.json)
        case "requirements":
            from rig.cli.requirements import show_requirements

            return show_requirements(options)
        case "faults":
            from rig.cli.faults import faults

            return faults(options)
        case _:
            from rig.cli.virtual import keep_running

            return keep_running(options)


if __name__ == "__main__":
    sys.exit(main())
