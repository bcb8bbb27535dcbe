"""Two loops that numba does not write well, in LLVM's terms: add up rows of a matrix, and list what is not 0.

LLVM fits the vectors to the registers of the processor at hand.
"""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic

LANES = 16  # spikes listed at once


@cache
def add_rows(block: int, bits: int) -> Any:
    """(acc, weight, index, first, last, shift) -> None: acc += sum of weight[index[first:last] + shift].

    acc: (>= block,), integers of any width; weight: int8 (rows, block); index: int32. bits: of the running sum, which
    must hold last - first weights. The rows may lie anywhere; nothing is checked.
    """

    @intrinsic
    def add(typing: Any, acc: Any, weight: Any, index: Any, first: Any, last: Any, shift: Any) -> Any:
        signature = types.void(acc, weight, index, types.intp, types.intp, types.intp)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = [
                context.make_array(kind)(context, builder, a).data
                for kind, a in zip(signature.args[:3], args[:3], strict=True)
            ]
            target, rows, where = data
            first, last, shift = args[3:]
            size = first.type
            byte, short = ir.IntType(8), ir.IntType(bits)
            kept = ir.IntType(signature.args[0].dtype.bitwidth)
            total = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(short, block), None))
            with cgutils.for_range_slice(builder, first, last, ir.Constant(size, 1), size) as (at, _):
                row = builder.add(builder.sext(builder.load(builder.gep(where, [at])), size), shift)
                place = builder.gep(rows, [builder.mul(row, ir.Constant(size, block))])
                vector = builder.load(builder.bitcast(place, ir.VectorType(byte, block).as_pointer()), align=1)
                if bits > 8:
                    vector = builder.sext(vector, ir.VectorType(short, block))
                builder.store(builder.add(builder.load(total), vector), total)
            place = builder.bitcast(target, ir.VectorType(kept, block).as_pointer())
            found = builder.load(total)
            if kept.width > bits:
                found = builder.sext(found, ir.VectorType(kept, block))
            builder.store(builder.add(builder.load(place, align=1), found), place, align=1)
            return impl_ret_untracked(context, builder, signature.return_type, context.get_dummy_value())

        return signature, generate

    return add


@intrinsic
def list_signs(typing: Any, spikes: Any, index: Any, n: Any, base: Any, count: Any, channels: Any) -> Any:
    """(spikes, index, n, base, count, channels) -> n: append base + c to `index` for each c < count with a spike.

    spikes: int8 (>= count,) of -1, 0, 1, count a multiple of LANES; index: int32, LANES entries longer than needed, of
    which n are in use. A negative spike adds `channels`.
    """
    signature = types.intp(spikes, index, types.intp, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, where = (
            context.make_array(kind)(context, builder, a).data
            for kind, a in zip(signature.args[:2], args[:2], strict=True)
        )
        n, base, count, channels = args[2:]
        size, word = n.type, ir.IntType(32)
        bytes_, words, flags = (ir.VectorType(kind, LANES) for kind in (ir.IntType(8), word, ir.IntType(1)))
        none, nothing = ir.Constant(bytes_, None), ir.Constant(words, None)
        compress = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(words, [words, flags, words]),
            f"llvm.experimental.vector.compress.v{LANES}i32",
        )  # fmt: skip
        population = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(LANES)])

        def splat(value: Any) -> Any:
            first = builder.insert_element(nothing, builder.trunc(value, word), ir.Constant(word, 0))
            return builder.shuffle_vector(first, nothing, nothing)

        used, below = cgutils.alloca_once_value(builder, n), splat(channels)
        with cgutils.for_range_slice(
            builder, ir.Constant(size, 0), count, ir.Constant(size, LANES), size
        ) as (at, _):  # fmt: skip
            spike = builder.load(builder.bitcast(builder.gep(data, [at]), bytes_.as_pointer()), align=1)
            some = builder.icmp_signed("!=", spike, none)
            entry = builder.add(splat(builder.add(base, at)), ir.Constant(words, list(range(LANES))))
            entry = builder.add(entry, builder.select(builder.icmp_signed("<", spike, none), below, nothing))
            here = builder.load(used)
            place = builder.bitcast(builder.gep(where, [here]), words.as_pointer())
            builder.store(builder.call(compress, [entry, some, nothing]), place, align=4)
            found = builder.call(population, [builder.bitcast(some, ir.IntType(LANES))])
            builder.store(builder.add(here, builder.zext(found, size)), used)
        return builder.load(used)

    return signature, generate
