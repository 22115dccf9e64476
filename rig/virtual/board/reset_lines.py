"""DTR and RTS, and what hangs on them: the two transistors of a DevKit, or the chip's own USB-Serial-JTAG."""

import enum


class Pulse(enum.Enum):
    """What a change of the lines does to the chip."""

    NOTHING = enum.auto()
    HOLD = enum.auto()  # EN goes low, or stays so
    RELEASE = enum.auto()  # EN goes high, if it was low
    RELEASE_SLOWLY = enum.auto()  # as soon as the capacitor at EN is charged
    RESTART = enum.auto()  # a reset without EN


class ResetLines:
    """The levels of the lines and what they ask of the chip at its next reset.

    DevKit: EN is low while RTS is asserted and DTR is not; GPIO9 while DTR is asserted and RTS is not. When both become
    asserted, the capacitor keeps EN low until the next edge or until it is charged.
    USB-Serial-JTAG: DTR alone asks for download mode and neither for flash; RTS alone resets at once, without EN.
    """

    def __init__(self, *, usb: bool) -> None:
        self._usb = usb
        self._dtr = False
        self._rts = False
        self._usb_download = False

    def set(self, dtr: bool, rts: bool) -> Pulse:
        """Take the levels."""
        changed = (dtr, rts) != (self._dtr, self._rts)
        self._dtr, self._rts = dtr, rts
        if self._usb:
            if not rts:
                self._usb_download = dtr
            return Pulse.RESTART if rts and not dtr and changed else Pulse.NOTHING
        if rts:
            return Pulse.RELEASE_SLOWLY if dtr else Pulse.HOLD
        return Pulse.RELEASE

    @property
    def holds_reset(self) -> bool:
        """Whether EN is held low."""
        return not self._usb and self._rts and not self._dtr

    @property
    def asks_for_download(self) -> bool:
        """Whether the chip starts its loader at the next reset."""
        return self._usb_download if self._usb else self._dtr and not self._rts
