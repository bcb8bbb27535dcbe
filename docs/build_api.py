"""The API reference: a page for each public module, from its docstrings.

uv run python docs/build_api.py [FOLDER]        default: docs/api; open FOLDER/index.html

Nothing is fetched, by the build or by the pages. A module that needs a package which is not installed is left out, and
one line says so.
"""

import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import pdoc.doc
import pdoc.docstrings
import pdoc.render

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lava_conv", "processes", "netx_models")
GROUPS = {  # of the first page, in this order; what stands in none comes last
    "Convert and run": (
        "lava_conv",
        "conversion",
        "calibration",
        "backends",
        "analysis",
        "record",
        "classes",
        "errors",
    ),
    "Models that come in": ("frontends", "qat", "training"),
    "The network": ("network", "netx", "netx_models"),
    "Lava and Loihi": ("processes", "lava", "lowering", "loihi"),
    "Look at it": ("report", "figures"),
    "Inside": (
        "arguments",
        "classes",
        "files",
        "lazy",
        "memory",
        "options",
        "progress",
        "simulation",
        "kernels",
        "torch_tools",
        "cli",
    ),
}
OTHERS = "Others"
UNREAD = ("Args:", "Arguments:", "Fields:", "Parameters:", "Raises:", "Returns:")  # as text: nobody read the section
ARRAY = r"numpy\.ndarray\[.+?, numpy\.dtype\[(?:numpy\.|typing\.)?([^\]]+)\]\]"
REMARK = r"^{name}\b.* = .*  # (?!noqa|type:|fmt:)(.+)$"  # what the source says beside a constant
CLICK = re.compile(r"\x08\n((?:.+\n?)+)")  # lines that click is told to leave as they are
MADE = ("Alias for field number", "Create new instance of")  # docstrings that Python makes up
ASIDE = ("script", "style", "pre", "h6")  # h6: the heading of a section that was read


# -- modules ---------------------------------------------------------------------------------------------------------


def names_below(name: str, folder: Path) -> Iterator[str]:
    """A package and every public module in it, by name; nothing is imported."""
    yield name
    for info in pkgutil.iter_modules([str(folder)]):
        if info.name.startswith("_"):
            continue
        if info.ispkg:
            yield from names_below(f"{name}.{info.name}", folder / info.name)
        else:
            yield f"{name}.{info.name}"


def public_names() -> list[str]:
    """Every public module of the packages."""
    return [name for package in PACKAGES for name in names_below(package, ROOT / package)]


def load(names: Iterable[str]) -> tuple[dict[str, pdoc.doc.Module], dict[str, list[str]]]:
    """The modules by name; and the names of those left out, by the package that they lack."""
    loaded: dict[str, pdoc.doc.Module] = {}
    left_out: dict[str, list[str]] = {}
    for name in names:
        try:
            module: Any = importlib.import_module(name)
        except Exception as error:
            lacks = _missing(error)
            if lacks is None:
                raise
            left_out.setdefault(lacks, []).append(name)
            continue
        for exported in getattr(module, "__all__", ()):
            getattr(module, exported)  # lava_conv imports its names when they are asked for
        loaded[name] = pdoc.doc.Module(module)
    return loaded, left_out


def _missing(error: BaseException | None) -> str | None:
    """The package that is not installed, if that is why; a BackendError says so of Lava."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.partition(".")[0]
            return None if package in PACKAGES else package
        error = error.__context__
    return None


def _tidied(space: Any) -> None:
    """Tidy all that a module or a class holds; a class before what is in it."""
    for member in space.members.values():
        _tidy(member)
        if space.kind == "module" and member.kind == "variable" and not member.docstring:
            found = re.search(REMARK.format(name=member.name), space.source, re.MULTILINE)
            member.docstring = found[1].strip() if found else ""
        if member.kind == "class":
            _tidied(member)


def _tidy(member: Any) -> None:
    """Take out what is of this machine, and docstrings that came down from torch, Lava or Python."""
    if member.kind == "variable":
        member.default_value_str = _in_our_words(member.default_value_str.replace(f"{ROOT}{os.sep}", ""))
    if member.kind == "class":  # what torch or Lava bring is documented there, what a private base brings nowhere
        told = {k for k in _fields(member.obj) if f"{k}:" in member.docstring}  # the constructor shows type and default
        kept = {k: v for k, v in member.members.items() if k not in told and _is_ours(v.taken_from[0])}
        member.members = kept
        member.bases = [base for base in member.bases if not _is_private(base[1])]
        fields = set(_fields(member.obj))  # those of its bases too
        inherited = {k: [m for m in v if m.name not in fields] for k, v in member.inherited_members.items()}
        member.inherited_members = {k: v for k, v in inherited.items() if v and not _is_private(k[1])}
    if CLICK.search(member.docstring):
        member.docstring = CLICK.sub(lambda lines: textwrap.indent(lines[1], "    "), member.docstring)
    if member.docstring.startswith(MADE) or (
        member.kind == "function" and not member.obj.__doc__ and not _inherited_from_here(member)
    ):
        member.docstring = ""


def _fields(kind: type) -> Iterable[str]:
    """The names of the fields of a dataclass or NamedTuple."""
    return getattr(kind, "__dataclass_fields__", None) or getattr(kind, "_fields", ())


def _inherited_from_here(method: Any) -> bool:
    owner = inspect.getmodule(method.obj)
    for part in method.obj.__qualname__.split(".")[:-1]:
        owner = getattr(owner, part, None)
    found = (vars(base).get(method.name) for base in getattr(owner, "__mro__", ()) if _is_ours(base.__module__))
    return any(getattr(function, "__doc__", None) for function in found)


def _is_private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _in_our_words(annotation: str) -> str:
    """As in the source: numpy.ndarray[typing.Any, numpy.dtype[numpy.uint8]] is NDArray[uint8]."""
    return re.sub(ARRAY, r"NDArray[\1]", annotation)


_stock_format: Callable[..., str] = inspect.formatannotation


def _format(*args: Any, **options: Any) -> str:
    return _in_our_words(_stock_format(*args, **options))


# -- pages -----------------------------------------------------------------------------------------------------------


def build(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Write the pages of modules into `folder`; what was left out, by the package that it lacks.

    An earlier reference in that folder is replaced; a folder that holds anything else is refused.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "search.js").is_file():
        sys.exit(f"{folder}: holds something else than an API reference; choose an empty folder or a new one")
    modules, left_out = load(names)
    pdoc.docstrings.GOOGLE_LIST_SECTION_ALIASES["Fields"] = "Attributes"  # our word for them
    pdoc.render.configure(docformat="google", show_source=False, template_directory=ROOT / "docs" / "api_template")
    pdoc.render.env.globals.update(groups=_grouped(modules), left_out=left_out)
    # pdoc hides values that equal a variable of the environment; without variables none does, and none can get in
    # and the search index is the same on every machine, whether it has node or not
    raw = patch.object(pdoc.render, "precompile_index", lambda documents, script: json.dumps(documents))
    words = (patch.object(module, "formatannotation", _format) for module in (inspect, pdoc.doc))
    with ExitStack() as stack:
        for context in (patch.dict(os.environ, clear=True), raw, *words, warnings.catch_warnings()):
            stack.enter_context(context)
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"Error parsing type annotation .* for lava\.")  # in Lava's own base classes
        for name, module in modules.items():
            # pdoc would show those alone that __all__ names
            module.submodules = [other for key, other in modules.items() if key.rpartition(".")[0] == name]
            _tidied(module)
        pages = {f"{name.replace('.', '/')}.html": pdoc.render.html_module(m, modules) for name, m in modules.items()}
        pages["index.html"] = pdoc.render.html_index(modules)
        pages["search.js"] = pdoc.render.search_index(modules)
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return left_out


def _grouped(modules: dict[str, pdoc.doc.Module]) -> dict[str, list[tuple[str, str]]]:
    """Heading -> (module, first sentence of its docstring), each package followed by what is in it."""
    of = {part: heading for heading, parts in GROUPS.items() for part in parts}
    order = [part for parts in GROUPS.values() for part in parts]
    found: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*GROUPS, OTHERS)}

    def place(name: str) -> tuple[int, str]:
        part = _part(name)
        return order.index(part) if part in order else len(order), name

    for name in sorted(modules, key=place):
        paragraph = modules[name].docstring.partition("\n\n")[0]
        found[of.get(_part(name), OTHERS)].append((name, " ".join(paragraph.split())))
    return {heading: rows for heading, rows in found.items() if rows}


def _part(name: str) -> str:
    """What a module belongs to: the second part of its name in lava_conv, else the package."""
    return name.split(".")[1] if name.startswith("lava_conv.") else name.partition(".")[0]


# -- checks ----------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Anchors, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors, self.links, self.words, self.leaning, self._aside = set(), [], [], False, 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors.add(found.get("id"))
        self.leaning = self.leaning or tag == "em"
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        self._aside += tag in ASIDE

    def handle_endtag(self, tag: str) -> None:
        self._aside -= tag in ASIDE

    def handle_data(self, data: str) -> None:
        if not self._aside:
            self.words.append(data)


def problems(folder: Path) -> list[str]:
    """What is wrong with the pages of a folder: dead links, text that was misread, paths of this machine."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    here = {str(ROOT), sys.prefix, str(Path.home()), os.getcwd()} - {"/"}
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / parts.path).resolve() if parts.path else path
            if target not in pages:
                found.append(f"{name}: the link {link} leads to no page")
            elif parts.fragment and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name}: the link {link} leads to no place on its page")
        if page.leaning:
            found.append(f"{name}: two * were read as emphasis; put the formula into backticks")
        found += [f"{name}: {word} is left as text" for word in UNREAD if any(word in text for text in page.words)]
    for path in sorted(folder.rglob("*.*")):
        name, text = path.relative_to(folder), path.read_text(encoding="utf-8")
        found += [f"{name}: holds the path {word}" for word in sorted(here) if word in text]
    return found


def main() -> None:
    """Build, say what was left out, and end with 1 if something is wrong with the pages."""
    sys.path.insert(0, str(ROOT))  # this checkout, wherever another one is installed from
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs" / "api").resolve()
    for package, names in build(folder, public_names()).items():
        print(f"{package} is not installed, so these are left out: {', '.join(names)}")
    wrong = problems(folder)
    print(*wrong, f"{folder}/index.html", sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
