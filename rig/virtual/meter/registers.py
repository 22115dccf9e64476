"""Status registers with transition filters and a summary bit in the register above (SCPI-99 volume 1, 20.1)."""

from rig.virtual.meter.status import Register, Status


class FilteredRegister(Register):
    """A register whose events pass a positive and a negative transition filter.

    An enabled event sets *bits* in the condition of the register *above*, where there is one.
    """

    def __init__(self, above: "FilteredRegister | None" = None, bits: int = 0) -> None:
        super().__init__()
        self.positive = 0x7FFF
        self.negative = 0
        self._above = above
        self._bits = bits

    def set_condition(self, bits: int) -> None:
        """Replace the condition; transitions that pass the filters are latched as events."""
        self.event |= bits & ~self.condition & self.positive | self.condition & ~bits & self.negative
        self.condition = bits
        self._summarize()

    def put(self, bits: int, on: bool) -> None:
        """Set or clear *bits* of the condition."""
        self.set_condition(self.condition | bits if on else self.condition & ~bits)

    def latch(self, bits: int) -> None:
        self.event |= bits & self.positive
        self._summarize()

    def read_event(self) -> int:
        event = super().read_event()
        self._summarize()
        return event

    def _summarize(self) -> None:
        if self._above is not None:
            self._above.put(self._bits, bool(self.event & self.enable))


class ChannelStatus(Status):
    """The status of an instrument that has registers for its channels below the operation and questionable ones."""

    def __init__(
        self, operation: FilteredRegister, questionable: FilteredRegister, below: tuple[FilteredRegister, ...] = ()
    ) -> None:
        super().__init__()
        self.operation, self.questionable = operation, questionable
        self._below = below

    def clear(self) -> None:
        for register in self._below:
            register.read_event()
        super().clear()
