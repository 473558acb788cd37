"""SHA-1 and SHA-2 for many short messages at once, compiled: one message in each lane of a vector.

What replay costs with hashlib is its calls, not its hashing: a register takes one or two blocks an event.
Here one instruction works on `LANES` messages. The functions are generated from the standard (FIPS 180-4) as
straight-line code on vectors, and are held against hashlib by tests. Needs numba.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LANES: Final = 8
"""Messages hashed together; rows of the arrays below have this many columns."""

Value: TypeAlias = Any
Round: TypeAlias = tuple[int, int, int]


def _primes() -> Iterator[int]:
    found: list[int] = []
    candidate = 2
    while True:
        if all(candidate % prime for prime in found):
            found.append(candidate)
            yield candidate
        candidate += 1


def _cube_root(number: int) -> int:
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle)
    return low


_PRIMES: Final = [prime for prime, _ in zip(_primes(), range(80), strict=False)]
_MASK64: Final = (1 << 64) - 1
# FIPS 180-4, 4.2.3: the first 64 bits of the fractional parts of cube roots; 4.2.2 takes the first 32
_K: Final = [_cube_root(prime << 192) & _MASK64 for prime in _PRIMES]
# 5.3.3 to 5.3.5: of square roots
_ROOTS: Final = [isqrt(prime << 128) & _MASK64 for prime in _PRIMES[:16]]

# 5.3.1
START_SHA1: Final = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
START_SHA256: Final = tuple(root >> 32 for root in _ROOTS[:8])
START_SHA384: Final = tuple(_ROOTS[8:])
START_SHA512: Final = tuple(_ROOTS[:8])


class _Vectors:
    """Arithmetic on vectors of `LANES` words, as LLVM instructions."""

    def __init__(self, builder: Any, width: int) -> None:
        self._builder = builder
        self.width = width
        self.type = ir.VectorType(ir.IntType(width), LANES)

    def rows(self, context: Any, array_type: Any, array: Value) -> Value:
        """Return a pointer to the rows of a two-dimensional array."""
        data = context.make_array(array_type)(context, self._builder, array).data
        return self._builder.bitcast(data, self.type.as_pointer())

    def _row(self, rows: Value, index: int) -> Value:
        return self._builder.gep(rows, [ir.Constant(ir.IntType(64), index)])

    def load(self, rows: Value, count: int) -> list[Value]:
        """Read the first rows; arrays are aligned to their words only."""
        found = []
        for index in range(count):
            value = self._builder.load(self._row(rows, index))
            value.align = self.width // 8
            found.append(value)
        return found

    def store(self, rows: Value, values: list[Value]) -> None:
        """Write the first rows."""
        for index, value in enumerate(values):
            self._builder.store(value, self._row(rows, index)).align = self.width // 8

    def constant(self, value: int) -> Value:
        """The same word in each lane."""
        return ir.Constant(self.type, [value] * LANES)

    def add(self, *values: Value) -> Value:
        """Sum, modulo the word."""
        total = values[0]
        for value in values[1:]:
            total = self._builder.add(total, value)
        return total

    def xor(self, *values: Value) -> Value:
        """Exclusive or."""
        total = values[0]
        for value in values[1:]:
            total = self._builder.xor(total, value)
        return total

    def right(self, value: Value, count: int) -> Value:
        """Shift right."""
        return self._builder.lshr(value, self.constant(count))

    def rotate(self, value: Value, right: int) -> Value:
        """Rotate right."""
        left = self._builder.shl(value, self.constant(self.width - right))
        return self._builder.or_(self.right(value, right), left)

    def swap(self, value: Value) -> Value:
        """Turn the bytes of each word round."""
        size = self.width // 8
        octets = ir.VectorType(ir.IntType(8), LANES * size)
        places = [word * size + size - 1 - byte for word in range(LANES) for byte in range(size)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
        flat = self._builder.bitcast(value, octets)
        return self._builder.bitcast(self._builder.shuffle_vector(flat, flat, mask), self.type)

    def choose(self, x: Value, y: Value, z: Value) -> Value:
        """Ch (4.1.2): y where x is set, else z."""
        return self._builder.xor(z, self._builder.and_(x, self._builder.xor(y, z)))

    def majority(self, x: Value, y: Value, z: Value) -> Value:
        """Maj (4.1.2)."""
        either = self._builder.and_(z, self._builder.or_(x, y))
        return self._builder.or_(self._builder.and_(x, y), either)


def _sha1(vectors: _Vectors, state: list[Value], w: list[Value]) -> list[Value]:
    """Section 6.1.2."""
    a, b, c, d, e = state
    for t in range(80):
        if t >= 16:
            mixed = vectors.xor(w[(t - 3) % 16], w[(t - 8) % 16], w[(t - 14) % 16], w[t % 16])
            w[t % 16] = vectors.rotate(mixed, 31)
        part = t // 20
        f = vectors.xor(b, c, d)
        if part == 0:
            f = vectors.choose(b, c, d)
        elif part == 2:
            f = vectors.majority(b, c, d)
        k = vectors.constant((0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6)[part])
        total = vectors.add(vectors.rotate(a, 27), f, e, k, w[t % 16])
        a, b, c, d, e = total, a, vectors.rotate(b, 2), c, d
    return [a, b, c, d, e]


# sections 4.1.2 and 4.1.3: rotations of the capital and small sigmas; the last of a small one is a shift
_SIGMAS: Final[dict[int, tuple[Round, Round, Round, Round]]] = {
    32: ((2, 13, 22), (6, 11, 25), (7, 18, 3), (17, 19, 10)),
    64: ((28, 34, 39), (14, 18, 41), (1, 8, 7), (19, 61, 6)),
}


def _sha2(vectors: _Vectors, state: list[Value], w: list[Value]) -> list[Value]:
    """Sections 6.2.2 and 6.4.2."""
    width = vectors.width
    big0, big1, small0, small1 = _SIGMAS[width]

    def big(x: Value, by: Round) -> Value:
        return vectors.xor(*(vectors.rotate(x, count) for count in by))

    def small(x: Value, by: Round) -> Value:
        return vectors.xor(vectors.rotate(x, by[0]), vectors.rotate(x, by[1]), vectors.right(x, by[2]))

    a, b, c, d, e, f, g, h = state
    for t in range(64 if width == 32 else 80):
        if t >= 16:
            early, late = small(w[(t - 15) % 16], small0), small(w[(t - 2) % 16], small1)
            w[t % 16] = vectors.add(w[t % 16], w[(t - 7) % 16], early, late)
        k = vectors.constant(_K[t] >> (64 - width))
        first = vectors.add(h, big(e, big1), vectors.choose(e, f, g), k, w[t % 16])
        second = vectors.add(big(a, big0), vectors.majority(a, b, c))
        a, b, c, d, e, f, g, h = vectors.add(first, second), a, b, c, vectors.add(d, first), e, f, g
    return [a, b, c, d, e, f, g, h]


def _compression(
    function: Callable[[_Vectors, list[Value], list[Value]], list[Value]], words: int, width: int
) -> Any:
    """Make a function for compiled code: ``f(state, block)`` works `block` into `state`.

    Both are C-contiguous arrays of words with `LANES` columns, `words` and 16 rows.
    """

    @intrinsic
    def compress(_typing: Any, state: Any, block: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vectors = _Vectors(builder, width)
            kept, read = (
                vectors.rows(context, kind, array)
                for kind, array in zip(signature.args, arguments, strict=True)
            )
            before = vectors.load(kept, words)
            after = function(vectors, before, vectors.load(read, 16))
            vectors.store(kept, [vectors.add(old, new) for old, new in zip(before, after, strict=True)])
            return context.get_dummy_value()

        return types.void(state, block), code

    return compress


compress_sha1 = _compression(_sha1, 5, 32)
compress_sha256 = _compression(_sha2, 8, 32)
compress_sha512 = _compression(_sha2, 8, 64)


def _loader(width: int, *, big_endian: bool) -> Any:
    """Make a function for compiled code: ``f(buffer, at)``, the word at any byte of a buffer.

    It checks nothing: the caller has made sure that the word is inside the buffer.
    """
    word = types.Integer.from_bitwidth(width, signed=False)

    @intrinsic
    def load(_typing: Any, buffer: Any, at: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(width).as_pointer())
            value = builder.load(place)
            value.align = 1
            return builder.bswap(value) if big_endian else value

        return word(buffer, types.intp), code

    return load


load32 = _loader(32, big_endian=False)
load64 = _loader(64, big_endian=False)
big32 = _loader(32, big_endian=True)
big64 = _loader(64, big_endian=True)


def _transposed(builder: Any, rows: list[Value]) -> list[Value]:
    """Turn rows into columns: three perfect shuffles of `LANES` vectors of `LANES` words."""
    half = LANES // 2
    low = [index // 2 + (index % 2) * LANES for index in range(LANES)]
    high = [index + half for index in low]
    for _ in range(LANES.bit_length() - 1):
        mixed = []
        for first, second in zip(rows[:half], rows[half:], strict=True):
            for places in (low, high):
                mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), places)
                mixed.append(builder.shuffle_vector(first, second, mask))
        rows = mixed
    return rows


def _block_loader(width: int) -> Any:
    """Make a function for compiled code: ``f(buffer, places, block)`` lays whole blocks into all lanes.

    `places` are the offsets of `LANES` blocks of 16 big-endian words. It checks nothing.
    """

    @intrinsic
    def load(_typing: Any, buffer: Any, places: Any, block: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vectors = _Vectors(builder, width)
            data, offsets = (
                context.make_array(kind)(context, builder, array).data
                for kind, array in zip(signature.args[:2], arguments[:2], strict=True)
            )
            out = vectors.rows(context, signature.args[2], arguments[2])
            index = ir.IntType(64)
            at = [builder.load(builder.gep(offsets, [ir.Constant(index, lane)])) for lane in range(LANES)]
            found = []
            for part in range(16 // LANES):
                rows = []
                for offset in at:
                    start = builder.add(offset, ir.Constant(index, part * LANES * width // 8))
                    place = builder.bitcast(builder.gep(data, [start]), vectors.type.as_pointer())
                    value = builder.load(place)
                    value.align = 1
                    rows.append(vectors.swap(value))
                found += _transposed(builder, rows)
            vectors.store(out, found)
            return context.get_dummy_value()

        return types.void(buffer, places, block), code

    return load


blocks32 = _block_loader(32)
blocks64 = _block_loader(64)
