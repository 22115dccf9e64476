"""What ESP-IDF prints when an application dies, as lines for the console.

Source: ESP-IDF v5.3.1, esp_system/panic.c, port/arch/riscv/panic_arch.c and task_wdt/task_wdt.c. The registers and the
stack are those of a simulated chip: they are the same at every such end of the same program, and mean nothing. One
line says what became of the host process.
"""

import hashlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

_REGISTERS = (
    *("MEPC", "RA", "SP", "GP", "TP", "T0", "T1", "T2", "S0/FP", "S1", "A0", "A1", "A2", "A3", "A4", "A5", "A6", "A7"),
    *("S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "T3", "T4", "T5", "T6"),
    *("MSTATUS", "MTVEC", "MCAUSE", "MTVAL", "MHARTID"),
)
_REGISTERS_A_LINE = 4
_STACK_BYTES = 1024
_STACK_WORDS_A_LINE = 8
_CODE_ADDRESS, _STACK_ADDRESS, _GLOBAL_POINTER = 0x42000000, 0x3FC90000, 0x3FC8D800
_ABORT_ADDRESS = 0x403805F0
_STORE_FAULT = 7
_SHA256_DIGITS = 9  # CONFIG_APP_RETRIEVE_LEN_ELF_SHA
_FAULTS = {
    -signal.SIGSEGV: ("Load access fault", 5),
    -signal.SIGBUS: ("Load access fault", 5),
    -signal.SIGILL: ("Illegal instruction", 2),
    -signal.SIGTRAP: ("Breakpoint", 3),
}


@dataclass(frozen=True)
class Dying:
    """A program that ends: the SHA-256 of its ELF, and what really happened to the host process."""

    elf_sha256: bytes
    truth: str

    def crashed(self, status: int) -> list[str]:
        """Return the panic of a process that ended with *status*: a fault of the processor, else abort()."""
        words = _words(self.elf_sha256)
        if status in _FAULTS:
            reason, cause = _FAULTS[status]
            first = [f"Guru Meditation Error: Core  0 panic'ed ({reason}). Exception was unhandled."]
            return self._panic(first, _registers(words, _CODE_ADDRESS | next(words) & 0xFFFFE, cause), words)
        caller = _CODE_ADDRESS | next(words) & 0xFFFFE
        first = ["", f"abort() was called at PC 0x{caller:x} on core 0"]
        return self._panic(first, _registers(words, _ABORT_ADDRESS, _STORE_FAULT), words)

    def starved(self, uptime_ms: int) -> list[str]:
        """Return the words of the task watchdog, *uptime_ms* after the start, and the panic that follows."""
        words = _words(self.elf_sha256)
        said = (
            "Task watchdog got triggered. The following tasks/users did not reset the watchdog in time:",
            " - main (CPU 0)",
            "Tasks currently running:",
            "CPU 0: main",
            "Aborting.",
        )
        log = [f"E ({uptime_ms}) task_wdt: {line}" for line in said]
        return log + self._panic([""], _registers(words, _CODE_ADDRESS | next(words) & 0xFFFFE, _STORE_FAULT), words)

    def _panic(self, first: list[str], registers: dict[str, int], words: Iterator[int]) -> list[str]:
        return [
            "",
            *first,
            f"virtual bench: {self.truth}",
            "",
            "Core  0 register dump:",
            *_register_lines(registers),
            "",
            "Stack memory:",
            *_stack_lines(registers["SP"], words),
            "",
            "",
            "",
            f"ELF file SHA256: {self.elf_sha256.hex()[:_SHA256_DIGITS]}",
            "",
            "Rebooting...",
        ]


def _words(seed: bytes) -> Iterator[int]:
    """Yield 32-bit numbers that depend on *seed* alone."""
    for number in count():
        yield int.from_bytes(hashlib.sha256(seed + number.to_bytes(4, "little")).digest()[:4], "little")


def _registers(words: Iterator[int], pc: int, cause: int) -> dict[str, int]:
    values = {name: next(words) if name[0] in "TSA" else 0 for name in _REGISTERS}
    return values | {
        "MEPC": pc,
        "RA": pc,
        "SP": _STACK_ADDRESS | next(words) & 0xFFF0,
        "GP": _GLOBAL_POINTER,
        "TP": _STACK_ADDRESS | 0xFFE0,
        "MSTATUS": 0x1881,
        "MTVEC": 0x40380001,
        "MCAUSE": cause,
    }


def _register_lines(registers: dict[str, int]) -> list[str]:
    cells = [f"{name:<8}: 0x{registers[name]:08x}  " for name in _REGISTERS]
    return ["".join(cells[at : at + _REGISTERS_A_LINE]) for at in range(0, len(cells), _REGISTERS_A_LINE)]


def _stack_lines(pointer: int, words: Iterator[int]) -> list[str]:
    step = 4 * _STACK_WORDS_A_LINE
    return [
        f"{address:08x}: " + " ".join(f"0x{next(words):08x}" for _ in range(_STACK_WORDS_A_LINE))
        for address in range(pointer, pointer + _STACK_BYTES, step)
    ]
