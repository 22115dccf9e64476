"""The sliding window against replayed records (RFC 6347 section 4.1.2.6)."""


class ReplayWindow:
    """Remembers which of the last *bits* sequence numbers have been seen."""

    def __init__(self, bits: int) -> None:
        """*bits* is the window's width in records."""
        self._bits = bits
        self._newest = -1
        self._seen = 0

    @property
    def newest(self) -> int:
        """The highest number so far; -1 before the first."""
        return self._newest

    def admits(self, sequence: int) -> bool:
        """Whether *sequence* is neither seen nor too old to tell."""
        age = self._newest - sequence
        return age < 0 or (age < self._bits and not self._seen >> age & 1)

    def note(self, sequence: int) -> None:
        """Take down that *sequence* was seen."""
        ahead = sequence - self._newest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, self._bits) | 1) & (1 << self._bits) - 1
            self._newest = sequence
        elif -ahead < self._bits:
            self._seen |= 1 << -ahead
