"""SIMD vectors of float32 for numba, held in registers.

LLVM's own loop vectoriser neither blocks accumulators over registers nor adds up several dot products at once, and that
is what the attention kernels live on. Here a vector is a value inside ``@njit`` code, with ``+``, ``-``, ``*``, ``/``
and the functions below, and its width is a compile-time constant. LLVM splits it over as many registers as it takes,
one of AVX-512, two of AVX2 or four of NEON for the usual ``LANES``; a wider one is how a kernel asks for more
accumulators.

All arrays are one-dimensional, contiguous and of float32; ``index`` counts elements. Nothing is checked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic as _numba_intrinsic
from numba.extending import lower_builtin, models, register_model, type_callable

from colgraph.ops._numba_cache import inlined

__all__ = [
    "LANES",
    "at_once",
    "exp",
    "fence",
    "first_of",
    "fma",
    "largest_lane",
    "load",
    "load_first",
    "maximum",
    "peek",
    "prefetch",
    "put_first",
    "splat",
    "store",
    "store_first",
    "store_past",
    "store_sums",
    "sum_lanes",
    "take_number",
]


LANES = 16
_ZERO = np.float32(0.0)

intrinsic: Any = _numba_intrinsic  # what it makes is called without the first argument: no type checker can know

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)


class _Vector(types.Type):
    """Numba's type of a vector with so many lanes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(_FLOAT, kind.lanes))


# ---------------------------------------------------------------------- LLVM, in a few words


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    """Call an LLVM intrinsic function by its full name."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [arg.type for arg in args]), name)
    return builder.call(function, args)


def _everywhere(kind: ir.VectorType, number: float) -> ir.Constant:
    return ir.Constant(kind, [number] * kind.count)


def _lanes(numbers: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_INT, len(numbers)), numbers)


def _broadcast(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    none = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(none, scalar, _INT(0)), none, _lanes([0] * lanes))


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    # "fmuladd" is one instruction where there is one, and two where there is none (never a library call).
    return _call(builder, f"llvm.fmuladd.v{a.type.count}f32", a.type, [a, b, c])


def _larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _fold(builder: ir.IRBuilder, value: ir.Value, lanes: int, combine: Callable[..., ir.Value]) -> ir.Value:
    """Combine the upper half of ``value`` with the lower until ``lanes`` lanes are left."""
    width = value.type.count
    while width > lanes:
        width //= 2
        low = builder.shuffle_vector(value, value, _lanes(list(range(width))))
        high = builder.shuffle_vector(value, value, _lanes(list(range(width, 2 * width))))
        value = combine(builder, low, high)
    return value


def _add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fadd(a, b)


def _address(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value], kind: ir.Type) -> ir.Value:
    """Where ``array[index]`` is, for the array and the index that every memory function takes first."""
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())


def _first_lanes(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """A mask of the first ``count`` lanes."""
    return builder.icmp_signed("<", _lanes(list(range(LANES))), _broadcast(builder, builder.trunc(count, _INT), LANES))


# ---------------------------------------------------------------------- arithmetic


def _define_operator(symbol: Callable[..., Any], method: str) -> None:
    @type_callable(symbol)
    def typer(context: Any) -> Callable[..., Any]:
        def same(a: Any, b: Any) -> Any:
            return a if isinstance(a, _Vector) and a == b else None

        return same

    @lower_builtin(symbol, _Vector, _Vector)
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        return getattr(builder, method)(*args)


_OPERATORS = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}
for _symbol, _method in _OPERATORS.items():
    _define_operator(_symbol, _method)


@intrinsic(prefer_literal=True)
def splat(typing: Any, value: Any, lanes: Any) -> Any:
    """A float32 in every one of ``lanes`` lanes."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        return _broadcast(builder, args[0], sig.return_type.lanes)

    return _Vector(lanes.literal_value)(types.float32, lanes), code


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        return _fma(builder, *args)

    return a(a, a, a), code


@intrinsic
def maximum(typing: Any, a: Any, b: Any) -> Any:
    """The larger of each pair of lanes; the one in ``b`` where either is not a number."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        return _larger(builder, *args)

    return a(a, a), code


@intrinsic
def sum_lanes(typing: Any, value: Any) -> Any:
    """The sum of all lanes, a float32."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        return builder.extract_element(_fold(builder, args[0], 1, _add), _INT(0))

    return types.float32(value), code


@intrinsic
def largest_lane(typing: Any, value: Any) -> Any:
    """The largest of all lanes, a float32."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        return builder.extract_element(_fold(builder, args[0], 1, _larger), _INT(0))

    return types.float32(value), code


_LOWEST = -87.0  # below this, e ** x is no normal float32
_TAYLOR = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.428606820309417e-06  # ln 2; the first part has only 17 bits
_ROUND = 12582912.0  # 1.5 * 2 ** 23: adding it rounds to an integer and leaves that integer in the low bits


@intrinsic
def exp(typing: Any, value: Any) -> Any:
    """``e ** x`` for x up to 88, within two units in the last place; exactly 0 below -87; NaN stays NaN.

    ``e ** x = 2 ** n e ** r`` with ``n = round(x / ln 2)``, hence ``|r| <= ln(2) / 2``, and a Taylor polynomial in r.
    """

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        x, kind = args[0], args[0].type
        integers = ir.VectorType(_INT, kind.count)

        def number(constant: float) -> ir.Constant:
            return _everywhere(kind, constant)

        tiny = builder.fcmp_ordered("<", x, number(_LOWEST))
        x = builder.select(tiny, number(0.0), x)
        shifted = _fma(builder, x, number(1.4426950408889634), number(_ROUND))
        n = builder.fsub(shifted, number(_ROUND))
        r = _fma(builder, n, number(-_LN2_HIGH), x)
        r = _fma(builder, n, number(-_LN2_LOW), r)
        result = number(_TAYLOR[0])
        for coefficient in _TAYLOR[1:]:
            result = _fma(builder, result, r, number(coefficient))
        exponent = builder.shl(builder.bitcast(shifted, integers), _everywhere(integers, 23))
        result = builder.bitcast(builder.add(builder.bitcast(result, integers), exponent), kind)
        return builder.select(tiny, number(0.0), result)

    return value(value), code


# ---------------------------------------------------------------------- memory


@intrinsic
def peek(typing: Any, array: Any, index: Any) -> Any:
    """``array[index]`` of any type, for an index that is never negative: one load and nothing else."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        return builder.load(builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]]))

    return array.dtype(array, types.intp), code


@intrinsic
def take_number(typing: Any, array: Any) -> Any:
    """``array[0]``, which is one more for whoever comes next, on whatever thread."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        counter = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", counter, counter.type.pointee(1), "monotonic")

    return array.dtype(array), code


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array[index]`` without waiting for it. It may lie beyond the array."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        pointer = _address(context, builder, sig, args, ir.IntType(8))
        read, into_level_two, data = _INT(0), _INT(2), _INT(1)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, read, into_level_two, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), code


@intrinsic(prefer_literal=True)
def load(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """``array[index : index + lanes]``."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        kind = ir.VectorType(_FLOAT, sig.return_type.lanes)
        return builder.load(_address(context, builder, sig, args, kind), align=4)

    return _Vector(lanes.literal_value)(array, types.intp, lanes), code


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index : index + lanes] = value``."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        builder.store(args[2], _address(context, builder, sig, args, args[2].type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), code


@intrinsic
def store_past(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """As :func:`store`, past the caches, at the start of a cache line: for what is not read again soon."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        stored = builder.store(args[2], _address(context, builder, sig, args, args[2].type), align=64)
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_INT, 1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), code


@intrinsic
def fence(typing: Any) -> Any:
    """Wait until all that was stored, past the caches too, can be seen by other threads."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def load_first(typing: Any, array: Any, index: Any, count: Any, filling: Any) -> Any:
    """``array[index : index + count]`` in the first of ``LANES`` lanes, ``filling`` after; nothing beyond is read."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        kind = ir.VectorType(_FLOAT, LANES)
        pointer = _address(context, builder, sig, args, kind)
        given = [pointer, _INT(4), _first_lanes(builder, args[2]), _broadcast(builder, args[3], LANES)]
        return _call(builder, f"llvm.masked.load.v{LANES}f32.p0", kind, given)

    return _Vector(LANES)(array, types.intp, types.intp, types.float32), code


@intrinsic
def store_first(typing: Any, array: Any, index: Any, count: Any, value: Any) -> Any:
    """``array[index : index + count] = value[:count]`` for a ``value`` of ``LANES`` lanes."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        pointer = _address(context, builder, sig, args, args[3].type)
        given = [args[3], pointer, _INT(4), _first_lanes(builder, args[2])]
        _call(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), given)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), code


@intrinsic
def store_sums(typing: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """``array[index : index + 4]`` = the sums over lanes of ``a``, ``b``, ``c`` and ``d``.

    Transposing while adding takes a third of the shuffles that four separate sums take.
    """

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        a, b, c, d = (_fold(builder, value, LANES, _add) for value in args[2:])

        def lanes(x: ir.Value, y: ir.Value, quarter: list[int]) -> ir.Value:
            """The same choice of lanes (0..3 of x, 4..7 of y) in every group of four."""
            picked = [group + lane % 4 + lane // 4 * LANES for group in range(0, LANES, 4) for lane in quarter]
            return builder.shuffle_vector(x, y, _lanes(picked))

        ab = builder.fadd(lanes(a, b, [0, 4, 1, 5]), lanes(a, b, [2, 6, 3, 7]))
        cd = builder.fadd(lanes(c, d, [0, 4, 1, 5]), lanes(c, d, [2, 6, 3, 7]))
        abcd = builder.fadd(lanes(ab, cd, [0, 1, 4, 5]), lanes(ab, cd, [2, 3, 6, 7]))
        sums = _fold(builder, abcd, 4, _add)
        builder.store(sums, _address(context, builder, sig, args, sums.type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, a, b, c, d), code


# ---------------------------------------------------------------------- the ends of rows


@inlined
def first_of(array: np.ndarray, at: int, count: int, filling: float = _ZERO) -> Any:
    """The first ``count`` numbers from ``at`` on, ``LANES`` at most, and ``filling`` in the lanes after them."""
    # Masks cost time, above all where a processor has none: they are for the ends of rows.
    return load(array, at, LANES) if count >= LANES else load_first(array, at, count, filling)


@inlined
def put_first(array: np.ndarray, at: int, count: int, value: Any) -> None:
    """The first ``count`` lanes of ``value`` to ``at`` and after, ``LANES`` of them at most."""
    if count >= LANES:
        store(array, at, value)
    else:
        store_first(array, at, count, value)


def at_once(width: int) -> tuple[Any, Any]:
    """:func:`first_of` and :func:`put_first` for ``width`` numbers of a row at a time.

    Where that is more than ``LANES``, as many must be left.
    """
    if width == LANES:
        return first_of, put_first
    take = inlined(lambda array, at, count: load(array, at, width))
    return take, inlined(lambda array, at, count, value: store(array, at, value))
