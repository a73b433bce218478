"""shm room: many bytes or words at a time, where a loop over them would not become that by itself.

Each of these is a few instructions of whatever vectors the processor has, written as LLVM's own
vector operations, so it needs none in particular. No place is checked: the caller answers for it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 16  # words of a block
_LANES = 64  # bytes that `like_in` looks at, a bit each
_WORD, _BIT = ir.IntType(64), ir.IntType(1)
_BLOCK = ir.VectorType(_WORD, BLOCK)
_PLACES = ir.Constant(_BLOCK, list(range(BLOCK)))


def _is(array: Any, dtype: Any) -> bool:
    """Says whether an argument is an array of `dtype` whose elements lie one behind the other."""
    return isinstance(array, types.Array) and (array.layout, array.dtype) == ("C", dtype)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any, target: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), target.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(typing, target, at, source, first, count):  # type: ignore[no-untyped-def]
    """Copies source[first : first + count] to target[at:], both uint8 and apart from each other."""
    if not (_is(target, types.uint8) and _is(source, types.uint8)):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        target, at, source, first, count = arguments
        byte, kinds = ir.IntType(8), signature.args
        into = _pointer(context, builder, kinds[0], target, at, byte)
        cgutils.raw_memcpy(
            builder, into, _pointer(context, builder, kinds[2], source, first, byte), count, 1
        )
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def copy_block(typing, target, source):  # type: ignore[no-untyped-def]
    """Copies the first BLOCK words of `source` to `target`, both int64."""
    if not (_is(target, types.int64) and _is(source, types.int64)):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kinds, zero = signature.args, ir.Constant(_WORD, 0)
        into = _pointer(context, builder, kinds[0], arguments[0], zero, _BLOCK)
        block = builder.load(
            _pointer(context, builder, kinds[1], arguments[1], zero, _BLOCK), align=8
        )
        builder.store(block, into, align=8)
        return context.get_dummy_value()

    return types.void(target, source), generate


def _spread(builder: Any, value: Any, vector: Any = _BLOCK) -> Any:
    """Answers a vector of which every element is `value`."""
    none, index = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    one = builder.insert_element(none, value, ir.Constant(index, 0))
    lanes = ir.Constant(ir.VectorType(index, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, none, lanes)


@intrinsic  # type: ignore[untyped-decorator]
def word_in(typing, data, place):  # type: ignore[no-untyped-def]
    """Loads the eight bytes data[place : place + 8] (uint8) as one uint64, the first one lowest."""
    if not _is(data, types.uint8):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = signature.args[0]
        return builder.load(_pointer(context, builder, kind, *arguments, _WORD), align=1)

    return types.uint64(data, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def like_in(typing, data, place, byte):  # type: ignore[no-untyped-def]
    """Says which of data[place : place + 64] (uint8) are `byte`: a bit each, the first lowest."""
    if not _is(data, types.uint8):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data, place, byte = arguments
        lanes = ir.VectorType(ir.IntType(8), _LANES)
        pointer = _pointer(context, builder, signature.args[0], data, place, lanes)
        is_like = builder.icmp_unsigned(
            "==", builder.load(pointer, align=1), _spread(builder, byte, lanes)
        )
        return builder.bitcast(is_like, _WORD)

    return types.uint64(data, types.intp, types.uint8), generate


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing, word):  # type: ignore[no-untyped-def]
    """Answers how many bits below the lowest set one of a uint64 are zero; 64 when none is set."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(_BIT, 0))

    return types.uint64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def count_below(typing, words, first, count, value):  # type: ignore[no-untyped-def]
    """Answers how many of words[first : first + count] (int64) are below `value`.

    `count` is at most BLOCK; all of the BLOCK words are read, but those behind decide nothing.
    """
    if not _is(words, types.int64):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, place, count, value = arguments
        pointer = _pointer(context, builder, signature.args[0], array, place, _BLOCK)
        block = builder.load(pointer, align=8)
        below = builder.and_(
            builder.icmp_signed("<", block, _spread(builder, value)),
            builder.icmp_signed("<", _PLACES, _spread(builder, count)),
        )
        bits = builder.bitcast(below, ir.IntType(BLOCK))
        return builder.zext(builder.ctpop(bits), _WORD)

    return types.int64(words, types.intp, types.intp, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def move_in(typing, words, first, place, step, new, value):  # type: ignore[no-untyped-def]
    """Moves words within the block words[first : first + BLOCK] (int64), then sets one.

    Those from `place` on are taken from `step` places behind: 1 takes the word at `place` out, -1
    makes room there, 0 leaves all. Then the word at `new` becomes `value`; BLOCK sets none. The
    words beside the block are read, though they decide nothing but its last one.
    """
    if not _is(words, types.int64):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, first, place, step, new, value = arguments
        pointer = _pointer(context, builder, signature.args[0], array, first, _BLOCK)
        other = builder.gep(builder.bitcast(pointer, _WORD.as_pointer()), [step])
        block = builder.load(pointer, align=8)
        moved = builder.load(builder.bitcast(other, _BLOCK.as_pointer()), align=8)
        is_still = builder.icmp_signed("<", _PLACES, _spread(builder, place))
        is_new = builder.icmp_signed("==", _PLACES, _spread(builder, new))
        out = builder.select(is_still, block, moved)
        builder.store(builder.select(is_new, _spread(builder, value), out), pointer, align=8)
        return context.get_dummy_value()

    return types.void(words, *(types.intp,) * 4, types.int64), generate
