"""Options, each declared once: a field of a dataclass with its help text and the values it may have.

The signature of a function (`takes`), the docstring of the dataclass (`documented`), the flat form that checkpoints
keep (`Options.as_flat`, `Options.from_flat`), the checks (`Options.check`) and the command line
(`lava_conv.cli.options.options_of`) are made from the declaration.
"""

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Generic, NamedTuple, ParamSpec, Protocol, TypeGuard, TypeVar, cast, overload

from lava_conv.errors import DataError, LavaConvError

T = TypeVar("T")
O = TypeVar("O", bound="Options")  # noqa: E741
P = ParamSpec("P")
First_contra = TypeVar("First_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Value = str | int | None  # that may have an alias
WIDTH = 110  # of a line in a docstring that is made here
INDENT = "    "


# -- what an option may be -------------------------------------------------------------------------------------------


class Allowed(Protocol):
    """The values that an option may have; `str` names them: "a whole number, 1 to 255"."""

    def accepts(self, value: object) -> bool:
        """Whether it is one of them."""
        ...

    def plain(self, value: object) -> object:
        """An accepted value as the plain Python value that checkpoints keep."""
        ...


def _is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number of any type."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a real number of any type."""
    return isinstance(value, Real) and not isinstance(value, bool)


class _Plain:
    """Values that are plain already."""

    def plain(self, value: object) -> object:
        return value


@dataclass(frozen=True)
class Whole:
    """Whole numbers of any type from `least` on, up to `most` if there is one."""

    least: int = 0
    most: int | None = None

    def accepts(self, value: object) -> bool:
        return _is_whole(value) and self.least <= value and (self.most is None or value <= self.most)

    def plain(self, value: object) -> object:
        return int(cast(int, value))

    def __str__(self) -> str:
        return "a whole number, " + (f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}")


@dataclass(frozen=True)
class Number:
    """Finite numbers from `least` on, up to `most` if there is one; without the ends that are `open`."""

    least: float = 0
    most: float | None = None
    least_open: bool = False
    most_open: bool = False

    def accepts(self, value: object) -> bool:
        if not _is_number(value):
            return False
        number, most = float(value), float("inf") if self.most is None else self.most
        above = number > self.least if self.least_open else number >= self.least
        return above and (number < most if self.most_open or self.most is None else number <= most)

    def plain(self, value: object) -> object:
        return value if type(value) in (int, float) else float(cast(float, value))

    def __str__(self) -> str:
        if self.most is None:
            return f"a number above {self.least}" if self.least_open else f"a number, {self.least} or more"
        if self.most_open:
            return f"a number, {self.least} or more and below {self.most}"
        return f"a number, {self.least} to {self.most}"


@dataclass(frozen=True)
class OneOf(_Plain):
    """One of a few values."""

    values: tuple[str | None, ...]

    def accepts(self, value: object) -> bool:
        return (value is None or isinstance(value, str)) and value in self.values

    def __str__(self) -> str:
        return ", ".join(map(repr, self.values[:-1])) + f" or {self.values[-1]!r}"


@dataclass(frozen=True)
class PowerOfTwo:
    """None, or a power of two up to `most`."""

    most: int

    def accepts(self, value: object) -> bool:
        return value is None or (_is_whole(value) and 0 < value <= self.most and int(value).bit_count() == 1)

    def plain(self, value: object) -> object:
        return None if value is None else int(cast(int, value))

    def __str__(self) -> str:
        return f"a power of two up to {self.most}"


@dataclass(frozen=True)
class Flag(_Plain):
    """True or False."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "True or False"


@dataclass(frozen=True)
class Text(_Plain):
    """Any text."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, str)

    def __str__(self) -> str:
        return "text"


@dataclass(frozen=True)
class Paths:
    """Paths of files."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, list | tuple) and all(isinstance(path, str) for path in value)

    def plain(self, value: object) -> object:
        return tuple(cast(tuple[str, ...], value))

    def __str__(self) -> str:
        return "a tuple of paths"


@dataclass(frozen=True)
class Anything(_Plain):
    """Values that the function which takes them checks itself."""

    def accepts(self, value: object) -> bool:
        return True

    def __str__(self) -> str:
        return "anything"


# -- declarations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """The declaration of an option.

    Fields:
        help: what it does, one sentence for docstrings and the command line.
        allowed: the values it may have.
        methods: values of the field `method` beside it that use it; (): all do.
        aliases: pairs of another spelling of a value and the value.
        flat: its name in the flat form and on the command line, where that is not the name of the field.
        flag: on the command line, where that is not made from the name.
    """

    help: str
    allowed: Allowed
    methods: tuple[str, ...] = ()
    aliases: tuple[tuple[Value, Value], ...] = ()
    flat: str = ""
    flag: str = ""

    def plain(self, value: object) -> object:
        """The value that an alias stands for, and plain numbers; what is not allowed stays, for `check` to name."""
        for alias, meant in self.aliases:
            if type(value) is type(alias) and value == alias:
                return meant
        return self.allowed.plain(value) if self.allowed.accepts(value) else value

    def used_by(self, method: str) -> bool:
        """Whether a method uses it."""
        return not self.methods or method in self.methods

    def describe(self) -> str:
        """The help text, preceded by the methods that use the option."""
        return f"{', '.join(self.methods)}: {self.help}" if self.methods else self.help


@dataclass(frozen=True)
class Absent:
    """How the flat form says that a group of options is None.

    Fields:
        name: an option of the group, by its flat name.
        value: which it then has.
        help: what that means.
    """

    name: str
    value: str
    help: str


@dataclass(frozen=True)
class Group:
    """The declaration of a field that holds options of its own.

    Fields:
        default: what it holds by default.
        help: what the options are about.
        absent: the field may be None, and the flat form says so in this way.
    """

    default: "Options"
    help: str
    absent: Absent | None = None


def option(
    default: T,
    help: str,
    allowed: Allowed,
    *,
    methods: tuple[str, ...] = (),
    aliases: tuple[tuple[Value, Value], ...] = (),
    flat: str = "",
    flag: str = "",
    compare: bool = True,
) -> T:
    """A field of a dataclass of options; for the arguments see `Option`. `compare`: as in `dataclasses.field`."""
    declared = Option(help, allowed, methods, aliases, flat, flag)
    return cast(T, field(default=default, metadata={"declared": declared}, compare=compare, repr=compare))


def group(default: "Options", help: str, absent: Absent | None = None) -> Any:
    """A field that holds options of its own; for the arguments see `Group`."""
    return field(default=default, metadata={"declared": Group(default, help, absent)})


class Declared(NamedTuple):
    """An option of a class or of its groups.

    Fields:
        name: in the flat form.
        default: its value by default.
        option: its declaration.
    """

    name: str
    default: object
    option: Option


@dataclass(frozen=True)
class Options:
    """Base of the dataclasses whose fields are made by `option` and `group`."""

    def __post_init__(self) -> None:
        for name, _, declared in _members(type(self)):
            if isinstance(declared, Option):
                object.__setattr__(self, name, declared.plain(getattr(self, name)))

    @classmethod
    def declared(cls) -> Iterator[Declared]:
        """Every option, those of groups in the place of the group."""
        for name, default, declared in _members(cls):
            if isinstance(declared, Option):
                yield Declared(declared.flat or name, default, declared)
                continue
            for inner in declared.default.declared():
                absent = declared.absent
                yield _with_choice(inner, absent) if absent and inner.name == absent.name else inner

    def as_flat(self) -> dict[str, Any]:
        """Every option by its flat name."""
        found: dict[str, Any] = {}
        for name, _, declared in _members(type(self)):
            value = getattr(self, name)
            if isinstance(declared, Option):
                found[declared.flat or name] = value
            elif value is not None:
                found |= value.as_flat()
            elif declared.absent:
                found |= declared.default.as_flat() | {declared.absent.name: declared.absent.value}
        return found

    @classmethod
    def flat(cls: type[O], **options: object) -> O:
        """From options by their flat names; those left out have their defaults.

        Raises:
            DataError: there is no option of a name, or the method does not use it.
        """
        return cls.from_flat(options, cls.__name__)

    @classmethod
    def from_flat(cls: type[O], options: Mapping[str, object], place: str, drop_unused: bool = False) -> O:
        """As `flat`, from a mapping.

        Args:
            options: values by name.
            place: what to begin the sentence of an error with.
            drop_unused: options that the method does not use get their defaults instead of being refused.

        Raises:
            DataError: there is no option of a name, or the method does not use it.
        """
        known = [one.name for one in cls.declared()]
        if unknown := [name for name in options if name not in known]:
            raise DataError(f"{place} has no option {', '.join(unknown)}; allowed are {', '.join(known)}")
        return _from_flat(cls, options, place, drop_unused)

    def changed(self: O, **options: object) -> O:
        """The same with some options changed, by their flat names; those that a new method does not use are dropped."""
        kind, kept = type(self), self.as_flat()
        if "method" in options:
            kept = kind.from_flat(kept | {"method": options["method"]}, kind.__name__, drop_unused=True).as_flat()
        return kind.from_flat(kept | options, kind.__name__)

    def conflict(self) -> str | None:
        """A sentence about options that do not go together, each allowed by itself; None where all do."""
        return None

    def check(self, place: str, error: type[LavaConvError] = DataError) -> None:
        """Refuse values that are not allowed, and options that the method does not use.

        Args:
            place: what to begin the sentence with.
            error: what to raise.
        """
        method = getattr(self, "method", "")
        for name, default, declared in _members(type(self)):
            value = getattr(self, name)
            if isinstance(declared, Group):
                kind = type(declared.default)
                if isinstance(value, kind):
                    value.check(place, error)
                elif value is not None or not declared.absent:
                    raise error(f"{place}: {name} is {value!r}, allowed is {kind.__name__}(...)")
                continue
            flat = declared.flat or name
            if not declared.allowed.accepts(value):
                raise error(f"{place}: {flat} is {value!r}, allowed is {declared.allowed}")
            if not declared.used_by(method) and value != default:
                raise error(f"{place}: {_unused(flat, value, method, declared.methods)}")
        if sentence := self.conflict():
            raise error(f"{place}: {sentence}")


def _members(kind: type[Options]) -> Iterator[tuple[str, object, Option | Group]]:
    """Name, default and declaration of each field of a class."""
    for one in fields(kind):
        yield one.name, one.default, one.metadata["declared"]


def _unused(name: str, value: object, method: str, users: Sequence[str]) -> str:
    """A sentence about an option that the method does not use."""
    return (
        f"{name} is {value!r}, but method {method} does not use it; leave it out, or choose method {' or '.join(users)}"
    )


def _with_choice(inner: Declared, absent: Absent) -> Declared:
    """The option whose value says that its group is None, with that value among the allowed ones."""
    allowed = OneOf((*_choices(inner.option), absent.value))
    more = replace(inner.option, allowed=allowed, help=f"{inner.option.help} {absent.value}: {absent.help}")
    return inner._replace(option=more)


def _choices(declared: Option) -> tuple[str, ...]:
    """The values of an option that is one of a few."""
    assert isinstance(declared.allowed, OneOf)
    return tuple(value for value in declared.allowed.values if value is not None)


def _from_flat(cls: type[O], options: Mapping[str, object], place: str, drop_unused: bool) -> O:
    made: dict[str, Any] = {}
    for name, _, declared in _members(cls):
        if isinstance(declared, Option):
            flat = declared.flat or name
            if flat in options:
                made[name] = options[flat]
        elif declared.absent and options.get(declared.absent.name) == declared.absent.value:
            made[name] = None
            if not drop_unused:
                _refuse_group(declared.default, declared.absent, options, place)
        else:
            made[name] = _from_flat(type(declared.default), options, place, drop_unused)
    found = cls(**made)
    method = getattr(found, "method", "")
    if drop_unused:
        for name, default, declared in _members(cls):
            if isinstance(declared, Option) and not declared.used_by(method):
                found = replace(found, **{name: default})
    return found


def _refuse_group(defaults: Options, absent: Absent, options: Mapping[str, object], place: str) -> None:
    """Raise DataError where an option of an absent group differs from its default."""
    declared = {one.name: one for one in defaults.declared()}
    methods = _choices(declared.pop(absent.name).option)
    for name, default, one in declared.values():
        value = one.plain(options.get(name, default))
        if value != default:
            raise DataError(f"{place}: {_unused(name, value, absent.value, one.methods or methods)}")


# -- docstrings and signatures ---------------------------------------------------------------------------------------


def documented(kind: type[O]) -> type[O]:
    """Add a line for each field to the docstring of a dataclass of options."""
    lines = "\n".join(_lines(kind))
    kind.__doc__ = f"{inspect.cleandoc(kind.__doc__ or '')}\n\nFields:\n{lines}\n"
    return kind


def _lines(kind: type[Options]) -> Iterator[str]:
    """A paragraph for each field, as in a section of a docstring."""
    for name, _, declared in _members(kind):
        text = declared.describe() if isinstance(declared, Option) else declared.help
        yield textwrap.fill(
            f"{name}: {text}",
            WIDTH,
            initial_indent=INDENT,
            subsequent_indent=2 * INDENT,
            break_on_hyphens=False,
            break_long_words=False,
        )


class Takes(Protocol, Generic[First_contra, P, Result_co]):
    """A function of one thing and of options, which are passed as keywords or as the dataclass that declares them."""

    __name__: str

    @overload
    def __call__(self, first: First_contra, options: Options, /, **others: object) -> Result_co: ...

    @overload
    def __call__(self, first: First_contra, /, *args: P.args, **kwargs: P.kwargs) -> Result_co: ...


def takes(
    kind: Callable[P, O], error: type[LavaConvError] = DataError
) -> Callable[[Callable[[First_contra, O], Result_co]], Takes[First_contra, P, Result_co]]:
    """Give a function of `(first, options)` the options of a dataclass as its own keywords.

    The signature, the docstring and the checks are made from the declaration. The line `options: ...` among the
    arguments in the docstring is replaced by a line for each option. The first option may also be the dataclass itself,
    or one that it extends; keywords then change it.

    Args:
        kind: the dataclass.
        error: what to raise for values that are not allowed and names that are not known.
    """
    declared = cast(type[Options], kind)
    parameters = list(inspect.signature(kind).parameters.values())

    def decorate(function: Callable[[First_contra, O], Result_co]) -> Takes[First_contra, P, Result_co]:
        place = function.__name__
        head, *_ = inspect.signature(function).parameters.values()
        signature = inspect.Signature(
            [head, *parameters], return_annotation=inspect.signature(function).return_annotation
        )

        def call(*args: object, **keywords: object) -> Result_co:
            if unknown := [name for name in keywords if name not in signature.parameters]:
                known = ", ".join(parameter.name for parameter in parameters)
                raise error(f"{place} has no option {', '.join(unknown)}; allowed are {known}")
            given = signature.bind(*args, **keywords).arguments
            first, whole = given.pop(head.name), given.get(parameters[0].name)
            if isinstance(whole, Options):
                if not issubclass(declared, type(whole)):
                    raise error(f"{place}: options are {type(whole).__name__}(...), needed is {declared.__name__}(...)")
                del given[parameters[0].name]
                given = {one.name: getattr(whole, one.name) for one in fields(whole)} | given
            options = kind(**given)  # type: ignore[call-arg]  # bound to its own signature above
            options.check(place, error)
            return function(first, options)

        for name in functools.WRAPPER_ASSIGNMENTS:  # without __wrapped__, whose signature pdoc would show
            setattr(call, name, getattr(function, name))
        call.__signature__ = signature  # type: ignore[attr-defined]  # what inspect, help() and pdoc read
        call.__doc__ = _with_options(inspect.getdoc(function) or "", declared)
        return cast(Takes[First_contra, P, Result_co], call)

    return decorate


def _with_options(docstring: str, kind: type[Options]) -> str:
    """A docstring with a paragraph for each option where it says `options:`."""
    if not docstring:  # python -OO
        return ""
    lines = docstring.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{INDENT}options:"))
    return "\n".join([*lines[:at], *_lines(kind), *lines[at + 1 :]])
