"""One loop that numba cannot write well: add up many rows of a matrix in vector registers, written in LLVM's terms."""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic


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
