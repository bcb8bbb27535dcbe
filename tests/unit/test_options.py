"""Options declared once: what they may be, their flat form, and the signatures and texts made from them."""

import inspect
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np
import pytest

from lava_conv.errors import ConversionError, DataError
from lava_conv.options import (
    Absent,
    Flag,
    Number,
    OneOf,
    Options,
    Paths,
    PowerOfTwo,
    Text,
    Whole,
    documented,
    group,
    option,
    takes,
)


@documented
@dataclass(frozen=True)
class Paint(Options):
    """How to paint."""

    method: str = option("brush", "what to paint with.", OneOf(("brush", "roller")), aliases=(("pencil", "brush"),))
    _: KW_ONLY
    hairs: int = option(40, "of the brush.", Whole(1, 99), methods=("brush",))
    width: float = option(1.5, "of a stroke.", Number(0, least_open=True))
    largest: int | None = option(None, "size of a can.", PowerOfTwo(64), aliases=((0, None),))


@documented
@dataclass(frozen=True, kw_only=True)
class House(Options):
    """What to build."""

    name: str = option("hut", "on the door.", Text(), flat="house")
    paint: Paint | None = group(Paint(), "the colours.", Absent("method", "bare", "no paint."))
    doors: tuple[str, ...] = option((), "their files.", Paths())
    heated: bool = option(False, "whether it is warm.", Flag())

    def conflict(self):
        return "a heated house needs doors; add some" if self.heated and not self.doors else None


@pytest.mark.parametrize(
    ("allowed", "yes", "no", "words"),
    [
        (Whole(1, 9), (1, 9, np.int8(3)), (0, 10, 2.0, True, "3", None), "a whole number, 1 to 9"),
        (Whole(2), (2, 10**30), (1,), "a whole number, 2 or more"),
        (Number(0, 0.9), (0, 0.9, np.float32(0.5)), (-0.1, 0.91, float("nan"), True, "0"), "a number, 0 to 0.9"),
        (Number(), (0, 1e300), (-1, float("inf"), float("nan")), "a number, 0 or more"),
        (Number(0, least_open=True), (1e-9,), (0, 0.0, float("inf")), "a number above 0"),
        (Number(0, 1, most_open=True), (0, 0.99), (1, 1.0), "a number, 0 or more and below 1"),
        (OneOf((None, "a", "b")), (None, "a"), ("c", 1, ["a"], np.zeros(2)), "None, 'a' or 'b'"),
        (PowerOfTwo(8), (None, 1, 8, np.int64(4)), (0, 3, 16, 2.0, True), "a power of two up to 8"),
        (Flag(), (True, False), (0, 1, None, "yes"), "True or False"),
        (Text(), ("", "a"), (b"a", None, 1), "text"),
        (Paths(), ((), ("a",), ["a", "b"]), ("a", (1,), None), "a tuple of paths"),
    ],
    ids=str,
)
def test_allowed_values(allowed, yes, no, words):
    assert [allowed.accepts(value) for value in (*yes, *no)] == [True] * len(yes) + [False] * len(no)
    assert str(allowed) == words


def test_values_become_plain_and_aliases_what_they_stand_for():
    paint = Paint("pencil", hairs=np.int16(3), width=np.float32(0.5), largest=0)
    assert paint == Paint(hairs=3, width=0.5)
    assert [type(value) for value in (paint.hairs, paint.width)] == [int, float]
    assert House(doors=["a"]).doors == ("a",) and hash(House(doors=["a"]))
    assert Paint(largest=False).largest is False  # no alias, and no power of two: `check` names it


FLAT = {
    "house": "hut", "method": "brush", "hairs": 40, "width": 1.5, "largest": None, "doors": (), "heated": False
}  # fmt: skip


def test_flat_form():
    assert House().as_flat() == FLAT and House.flat() == House()
    house = House(name="inn", paint=Paint("roller", width=3), doors=("a",))
    assert house.as_flat() == FLAT | {"house": "inn", "method": "roller", "width": 3, "doors": ("a",)}
    assert House.flat(**house.as_flat()) == house and House().changed(house="inn").name == "inn"
    bare = House(paint=None)
    assert bare.as_flat() == FLAT | {"method": "bare"} and House.flat(**bare.as_flat()) == bare
    assert bare.changed(method="pencil", hairs=4).paint == Paint(hairs=4)
    assert bare.changed(house="inn").paint is None
    hairy = House(paint=Paint(hairs=3, width=2))
    assert hairy.changed(method="roller") == House(paint=Paint("roller", width=2))
    assert hairy.changed(method="bare") == bare
    assert hairy.changed(method="roller", hairs=3).paint == Paint("roller", hairs=3, width=2)  # for `check` to refuse
    with pytest.raises(DataError, match="House has no option roof; allowed are house, method, hairs"):
        House.flat(roof=1)


def test_options_without_use_are_refused_or_dropped():
    refused = "hairs is 3, but method roller does not use it; leave it out, or choose method brush"
    with pytest.raises(DataError, match=f"here: {refused}"):
        Paint("roller", hairs=3).check("here")
    Paint("roller", hairs=40).check("here")
    with pytest.raises(
        DataError, match=r"House: width is 3, but method bare does not use it; .* choose method brush or roller"
    ):
        House.flat(method="bare", width=3)
    with pytest.raises(DataError, match=r"hairs is 3, but method bare does not use it; .* choose method brush$"):
        House().changed(method="bare", hairs=3)
    assert House.flat(method="bare", width=1.5, largest=0).paint is None
    assert House.from_flat({"method": "bare", "width": 3}, "here", drop_unused=True) == House(paint=None)
    dropped = House.from_flat({"method": "roller", "hairs": 3, "width": 3}, "here", drop_unused=True)
    assert dropped == House(paint=Paint("roller", width=3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 3}, "here: house is 3, allowed is text"),
        ({"paint": Paint("spray")}, "here: method is 'spray', allowed is 'brush' or 'roller'"),
        ({"paint": Paint(hairs=100)}, "here: hairs is 100, allowed is a whole number, 1 to 99"),
        ({"paint": "red"}, r"here: paint is 'red', allowed is Paint\(\.\.\.\)"),
        ({"heated": True}, "here: a heated house needs doors"),
    ],
)
def test_check_names_place_value_and_limit(options, message):
    with pytest.raises(ConversionError, match=message):
        House(**options).check("here", ConversionError)
    House().check("here")


@takes(Paint, ConversionError)
def paint(wall: str, options: Paint) -> str:
    """Paint it.

    Args:
        wall: of the house.
        options: how.

    Returns:
        Words.
    """
    return f"{wall} {options}"


def test_functions_have_the_options_as_their_signature():
    signature = inspect.signature(paint)
    wanted = list(inspect.signature(Paint).parameters.values())
    assert next(iter(signature.parameters)) == "wall" and list(signature.parameters.values())[1:] == wanted
    assert signature.return_annotation is str
    assert "    wall: of the house.\n    method: what to paint with.\n    hairs: brush: of the brush." in paint.__doc__
    assert "options:" not in paint.__doc__ and paint.__doc__.endswith("Returns:\n    Words.")
    assert "Fields:\n    name: on the door.\n    paint: the colours." in House.__doc__


def test_functions_take_keywords_or_the_dataclass():
    given = Paint("roller", width=2)
    assert (
        paint("a", "roller", width=2) == paint("a", given) == paint(wall="a", method="roller", width=2) == f"a {given}"
    )
    assert paint("a", given, width=3) == f"a {replace(given, width=3)}"
    for call, message in (
        (lambda: paint("a", hair=3), "paint has no option hair; allowed are method, hairs"),
        (lambda: paint("a", "roller", hairs=3), "paint: hairs is 3, but method roller does not use it"),
        (lambda: paint("a", House()), r"paint: options are House\(\.\.\.\), needed is Paint\(\.\.\.\)"),
    ):
        with pytest.raises(ConversionError, match=message):
            call()
    with pytest.raises(TypeError, match="missing a required argument: 'wall'"):
        paint()
