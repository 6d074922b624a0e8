"""SIMD vectors of float32 for numba, held in registers.

LLVM's own loop vectorizer neither blocks accumulators over registers nor adds up several dot products at once, and that
is what the attention kernels live on. Here a vector is a value inside ``@njit`` code, with ``+``, ``-``, ``*``, ``/``
and the functions below, and its width is a compile-time constant. LLVM splits it over as many registers as it takes,
one of AVX-512, two of AVX2 or four of NEON for the usual ``LANES``; a wider one is how a kernel asks for more
accumulators.

All arrays are one-dimensional, contiguous and of float32; ``index`` counts elements. In place of an array there may be
a pointer, which says where a row begins. Nothing is checked.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from colgraph.ops._numba_cache import inlined

LANES = 16
_ZERO = np.float32(0.0)

Pointer = Any  # in the signatures of kernels: see `pointers_at`

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


class _Pointer(types.Type):
    """Numba's type of a place in memory where float32 numbers begin; ``pointer + n`` is n numbers further on."""


@register_model(_Pointer)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Pointer) -> None:
        super().__init__(manager, kind, _FLOAT.as_pointer())


_POINTER = _Pointer(name="float32*")


@type_callable(operator.add)
def _type_further(context: Any) -> Callable[..., Any]:
    return lambda a, b: a(a, types.intp) if a == _POINTER and isinstance(b, types.Integer) else None


@lower_builtin(operator.add, _Pointer, types.intp)
def _lower_further(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    return builder.gep(args[0], [args[1]])


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


def _begin(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """Where the array or pointer is that every memory function takes first."""
    return args[0] if sig.args[0] == _POINTER else context.make_array(sig.args[0])(context, builder, args[0]).data


def _address(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value], kind: ir.Type) -> ir.Value:
    """Where ``array[index]`` is, for the array and the index that most memory functions take first."""
    return builder.bitcast(builder.gep(_begin(context, builder, sig, args), [args[1]]), kind.as_pointer())


def _first_lanes(builder: ir.IRBuilder, count: ir.Value, lanes: int = LANES) -> ir.Value:
    """A mask of the first ``count`` of ``lanes`` lanes."""
    return builder.icmp_signed("<", _lanes(list(range(lanes))), _broadcast(builder, builder.trunc(count, _INT), lanes))


def _emitted(signature: Callable[..., Any], prefer_literal: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: from the LLVM code of a function for kernels to that function.

    Args:
        signature: from the types of its arguments to its own.
        prefer_literal: whether numbers that are known come with their values.
    """

    def decorate(emit: Callable[..., Any]) -> Any:
        def code(context: Any, *given: Any) -> ir.Value:
            result = emit(context, *given)
            return context.get_dummy_value() if result is None else result

        def define(typing: Any, *kinds: Any) -> Any:
            return signature(*kinds), code

        # Numba counts the arguments by this, and knows no "*kinds".
        named = inspect.signature(signature).parameters.values()
        first = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        define.__signature__ = inspect.Signature([first, *named])  # type: ignore[attr-defined]
        define.__name__, define.__doc__ = emit.__name__, emit.__doc__
        return intrinsic(prefer_literal=prefer_literal)(define)

    return decorate


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


@_emitted(lambda value, lanes: _Vector(lanes.literal_value)(types.float32, lanes), prefer_literal=True)
def splat(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``splat(value, lanes)``: a float32 in every one of ``lanes`` lanes."""
    return _broadcast(builder, args[0], sig.return_type.lanes)


@_emitted(lambda a, b, c: a(a, b, c))
def fma(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``fma(a, b, c)``: ``a * b + c``."""
    return _fma(builder, *args)


@_emitted(lambda a, b: a(a, b))
def maximum(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``maximum(a, b)``: the larger of each pair of lanes; the one in ``b`` where either is not a number."""
    return _larger(builder, *args)


@_emitted(lambda x, a, b: x(x, a, b))
def where_negative(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``where_negative(x, a, b)``: ``a`` in the lanes where ``x < 0``, else ``b``."""
    return builder.select(builder.fcmp_ordered("<", args[0], _everywhere(args[0].type, 0.0)), args[1], args[2])


@_emitted(lambda value: types.float32(value))
def sum_lanes(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``sum_lanes(value)``: the sum of all lanes, a float32."""
    return builder.extract_element(_fold(builder, args[0], 1, _add), _INT(0))


@_emitted(lambda value: types.float32(value))
def largest_lane(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``largest_lane(value)``: the largest of all lanes, a float32."""
    return builder.extract_element(_fold(builder, args[0], 1, _larger), _INT(0))


_LOWEST = -87.0  # below this, e ** x is no normal float32
_TAYLOR = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.428606820309417e-06  # ln 2; the first part has only 17 bits
_ROUND = 12582912.0  # 1.5 * 2 ** 23: adding it rounds to an integer and leaves that integer in the low bits


@_emitted(lambda value: value(value))
def exp(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``exp(x)``: ``e ** x`` for x up to 88, within two units in the last place; exactly 0 below -87; NaN stays NaN.

    ``e ** x = 2 ** n e ** r`` with ``n = round(x / ln 2)``, hence ``|r| <= ln(2) / 2``, and a Taylor polynomial in r.
    """
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


@_emitted(lambda value: types.unliteral(value)(value))
def plain(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``plain(value)``: a constant as any other value. What is called with a constant is compiled for it alone."""
    return args[0]


# ---------------------------------------------------------------------- pointers


@_emitted(lambda addresses: types.UniTuple(_POINTER, addresses.count)(addresses))
def pointers_at(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``pointers_at(addresses)``: a pointer for each of a tuple of addresses, 0 for an array that is absent.

    Arrays passed in the usual way count references, atomically, at every call that hands one on, and the threads would
    fight for the counters.
    """
    addresses = [builder.extract_value(args[0], place) for place in range(sig.return_type.count)]
    pointers = [builder.inttoptr(address, _FLOAT.as_pointer()) for address in addresses]
    return context.make_tuple(builder, sig.return_type, pointers)


@_emitted(lambda array: _POINTER(array))
def begin_of(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``begin_of(array)``: a pointer to its first number.

    Numba frees an array after the last line that names it: name it where that line comes again, in a loop.
    """
    return _begin(context, builder, sig, args)


@_emitted(lambda pointer: types.boolean(pointer))
def is_there(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``is_there(pointer)``: whether it is the pointer of an array, and of none that is absent."""
    return builder.icmp_unsigned("!=", args[0], args[0].type(None))


@inlined
def row_of(pointer: Pointer, offset: int) -> Pointer:
    """``pointer + offset``, or none where there is none."""
    return pointer + offset if is_there(pointer) else pointer


# ---------------------------------------------------------------------- memory


@_emitted(lambda array, index: (types.float32 if array == _POINTER else array.dtype)(array, types.intp))
def peek(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``peek(array, index)``: ``array[index]`` of any type, for an index that is never negative: one load, no more."""
    return builder.load(builder.gep(_begin(context, builder, sig, args), [args[1]]))


@_emitted(lambda array, index, value: types.void(array, types.intp, array.dtype))
def poke(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> None:
    """``poke(array, index, value)``: ``array[index] = value``, for an index that is never negative: one store."""
    builder.store(args[2], builder.gep(_begin(context, builder, sig, args), [args[1]]))


@_emitted(lambda array: array.dtype(array))
def take_number(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``take_number(array)``: ``array[0]``, which is one more for whoever comes next, on whatever thread."""
    counter = _begin(context, builder, sig, args)
    return builder.atomic_rmw("add", counter, counter.type.pointee(1), "monotonic")


@_emitted(lambda array, index: types.void(array, types.intp))
def prefetch(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> None:
    """``prefetch(array, index)``: ask for the cache line there without waiting. It may lie beyond the array."""
    pointer = _address(context, builder, sig, args, ir.IntType(8))
    read, into_level_two, data = _INT(0), _INT(2), _INT(1)
    _call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, read, into_level_two, data])


@_emitted(lambda array, index, lanes: _Vector(lanes.literal_value)(array, types.intp, lanes), prefer_literal=True)
def load(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``load(array, index, lanes)``: ``array[index : index + lanes]``."""
    kind = ir.VectorType(_FLOAT, sig.return_type.lanes)
    return builder.load(_address(context, builder, sig, args, kind), align=4)


@_emitted(lambda array, index, value: types.void(array, types.intp, value))
def store(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> None:
    """``store(array, index, value)``: ``array[index : index + lanes] = value``."""
    builder.store(args[2], _address(context, builder, sig, args, args[2].type), align=4)


@_emitted(lambda array, index, value: types.void(array, types.intp, value))
def store_past(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> None:
    """As :func:`store`, past the caches, at the start of a cache line: for what is not read again soon."""
    stored = builder.store(args[2], _address(context, builder, sig, args, args[2].type), align=64)
    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_INT, 1)]))


@_emitted(lambda: types.void())
def fence(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> None:
    """Wait until all that was stored, past the caches too, can be seen by other threads."""
    builder.fence("seq_cst")


@_emitted(
    lambda a, i, count, filling, lanes: _Vector(lanes.literal_value)(a, types.intp, types.intp, types.float32, lanes),
    prefer_literal=True,
)
def load_first(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``load_first(array, index, count, filling, lanes)``: ``array[index : index + count]`` in the first of the lanes.

    ``filling`` comes after; nothing beyond is read.
    """
    lanes = sig.return_type.lanes
    kind = ir.VectorType(_FLOAT, lanes)
    pointer = _address(context, builder, sig, args, kind)
    given = [pointer, _INT(4), _first_lanes(builder, args[2], lanes), _broadcast(builder, args[3], lanes)]
    return _call(builder, f"llvm.masked.load.v{lanes}f32.p0", kind, given)


@_emitted(lambda array, index: _Vector(LANES)(array, types.intp))
def load_half(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``load_half(array, index)``: ``array[index : index + LANES // 2]``, and zeros in the upper lanes."""
    kind = ir.VectorType(_FLOAT, LANES // 2)
    low = builder.load(_address(context, builder, sig, args, kind), align=4)
    return builder.shuffle_vector(low, _everywhere(kind, 0.0), _lanes(list(range(LANES))))


@_emitted(lambda value, count, filling: value(value, types.intp, types.float32))
def keep_first(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """``keep_first(value, count, filling)``: the first ``count`` of ``LANES`` lanes, and ``filling`` after them."""
    return builder.select(_first_lanes(builder, args[1]), args[0], _broadcast(builder, args[2], LANES))


@_emitted(lambda array, index, count, value: types.void(array, types.intp, types.intp, value))
def store_first(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> None:
    """``store_first(array, index, count, value)``: ``array[index : index + count] = value[:count]``.

    ``value`` has ``LANES`` lanes.
    """
    pointer = _address(context, builder, sig, args, args[3].type)
    given = [args[3], pointer, _INT(4), _first_lanes(builder, args[2])]
    _call(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), given)


@_emitted(lambda array, index, a, b, c, d: types.void(array, types.intp, a, b, c, d))
def store_sums(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> None:
    """``store_sums(array, index, a, b, c, d)``: ``array[index : index + 4]`` = the sums over lanes of the four.

    Transposing while adding takes a third of the shuffles that four separate sums take.
    """
    a, b, c, d = (_fold(builder, value, LANES, _add) for value in args[2:])
    width = a.type.count

    def lanes(x: ir.Value, y: ir.Value, quarter: list[int]) -> ir.Value:
        """The same choice of lanes (0..3 of x, 4..7 of y) in every group of four."""
        picked = [group + lane % 4 + lane // 4 * width for group in range(0, width, 4) for lane in quarter]
        return builder.shuffle_vector(x, y, _lanes(picked))

    ab = builder.fadd(lanes(a, b, [0, 4, 1, 5]), lanes(a, b, [2, 6, 3, 7]))
    cd = builder.fadd(lanes(c, d, [0, 4, 1, 5]), lanes(c, d, [2, 6, 3, 7]))
    abcd = builder.fadd(lanes(ab, cd, [0, 1, 4, 5]), lanes(ab, cd, [2, 3, 6, 7]))
    sums = _fold(builder, abcd, 4, _add)
    builder.store(sums, _address(context, builder, sig, args, sums.type), align=4)


# ---------------------------------------------------------------------- rows


@inlined
def fetch(array: np.ndarray, at: int, count: int) -> None:
    """Ask for ``array[at : at + count]`` without waiting for it; it may lie beyond the array."""
    for x in range(at, at + count, LANES):
        prefetch(array, x)


@inlined
def first_of(array: np.ndarray, at: int, count: int, filling: float | np.float32 = _ZERO) -> Any:
    """The first ``count`` numbers from ``at`` on, ``LANES`` at most, and ``filling`` in the lanes after them."""
    # Masks cost time, above all where a processor has none: they are for the ends of rows.
    return load(array, at, LANES) if count >= LANES else load_first(array, at, count, filling, LANES)


@inlined
def end_of(array: np.ndarray, at: int, count: int) -> Any:
    """:func:`first_of` for the ends of rows, fewer than ``LANES``: often half as many, for which no mask is needed."""
    return load_half(array, at) if count == LANES // 2 else load_first(array, at, count, _ZERO, LANES)


@inlined
def put_first(array: np.ndarray, at: int, count: int, value: Any) -> None:
    """The first ``count`` lanes of ``value`` to ``at`` and after, ``LANES`` of them at most."""
    if count >= LANES:
        store(array, at, value)
    else:
        store_first(array, at, count, value)


def at_once(width: int, masked: bool) -> tuple[Any, Any]:
    """Read and write ``width`` numbers of a row; ``masked``: :func:`first_of` and :func:`put_first`, of fewer too."""
    if masked:
        return first_of, put_first
    take = inlined(lambda array, at, count: load(array, at, width))
    return take, inlined(lambda array, at, count, value: store(array, at, value))
