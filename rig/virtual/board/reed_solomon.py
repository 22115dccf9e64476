"""The Reed-Solomon code of the eFuse blocks: 32 bytes and 12 check bytes over GF(256), polynomial 0x11D."""

_POLYNOMIAL = 0x11D
_CHECK_BYTES = 12


def check_bytes(data: bytes) -> bytes:
    """Return the 12 check bytes of *data*."""
    remainder = [0] * _CHECK_BYTES
    for byte in data:
        factor = byte ^ remainder[0]
        remainder = [*remainder[1:], 0]
        remainder = [old ^ _product(factor, part) for old, part in zip(remainder, _GENERATOR, strict=True)]
    return bytes(remainder)


def _product(a: int, b: int) -> int:
    result = 0
    while b:
        if b & 1:
            result ^= a
        a <<= 1
        if a & 0x100:
            a ^= _POLYNOMIAL
        b >>= 1
    return result


def _generator() -> list[int]:
    """Return (x + 1)(x + 2)(x + 4)... without its leading 1, highest power first."""
    coefficients = [1]
    root = 1
    for _ in range(_CHECK_BYTES):
        shifted = [*coefficients, 0]
        scaled = [0, *(_product(part, root) for part in coefficients)]
        coefficients = [a ^ b for a, b in zip(shifted, scaled, strict=True)]
        root = _product(root, 2)
    return coefficients[1:]


_GENERATOR = _generator()
