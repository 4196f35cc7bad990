"""What docstrings of public names say: shapes of tensors, all arguments and no other, sources of methods."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import sngd
from sngd import architectures, library
from sngd.optimizers import OPTIMIZERS, named

# (n, d), (P,), "a number", "of any shape", P × k
SHAPE = re.compile(
    r"\((?:[#\w…·×*/+−\-^²| ]+,[^()]*|[#\w·]+,)\)|\bscalars?\b|\bnumbers?\b|\w\s*×\s*\w|\bshapes?\b"
)
# a year, or arXiv
SOURCE = re.compile(r"\b(1[6-9]|20)\d\d\b|arXiv")
# Methods that others have published; the problems of the library, optimizers and architectures come by name.
PUBLISHED = (
    *(
        "adaptive",
        "calculus",
        "causal",
        "core",
        "curriculum",
        "embedding",
        "landmarks",
        "marching",
        "networks",
    ),
    *("sampling", "sketch", "stability", "taylor", "trust", "geometry.combination", "optimizers.first_order"),
)
# Whose method the choice among others is.
OWN_OPTIMIZERS = {"auto"}


def modules() -> list[str]:
    found = pkgutil.walk_packages(sngd.__path__, "sngd.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def public(module: str) -> Iterator[tuple[str, Any]]:
    """Functions, classes and their public methods that a module lists, by their full names."""
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):
        found = getattr(loaded, name)
        if getattr(found, "__module__", None) != module or not callable(found):
            continue
        yield f"{module}.{name}", found
        for method, value in vars(found).items() if inspect.isclass(found) else ():
            value = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if not method.startswith("_") and inspect.isfunction(value):
                yield f"{module}.{name}.{method}", value


EVERYTHING = [pair for module in modules() for pair in public(module)]


def doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def handles_tensors(function: Any) -> bool:
    signature = inspect.signature(function)
    kinds = [parameter.annotation for parameter in signature.parameters.values()]
    return any("Tensor" in str(kind) for kind in (*kinds, signature.return_annotation))


def shapeless(pairs: list[tuple[str, Any]]) -> list[str]:
    """Functions with tensors whose docstrings tell no shape, unless another of that method's name does."""
    tensors = [(name, f) for name, f in pairs if inspect.isfunction(f) and handles_tensors(f)]
    told = {
        f.__name__
        for name, f in tensors
        if SHAPE.search(doc(f)) and name.count(".") > f.__module__.count(".") + 1
    }
    method = {name: name.count(".") > f.__module__.count(".") + 1 for name, f in tensors}
    return [
        name for name, f in tensors if not SHAPE.search(doc(f)) and not (method[name] and f.__name__ in told)
    ]


def arguments(thing: Any) -> set[str] | None:
    """The names that stand under Args; None where nothing does."""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", doc(thing), re.MULTILINE)
    if section is None:
        return None
    listed = re.findall(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):", section[1], re.MULTILINE)
    return {name.strip("* ") for names in listed for name in names.split(",")}


def parameters(thing: Any) -> set[str]:
    if inspect.isclass(thing) and dataclasses.is_dataclass(thing):
        return {field.name for field in dataclasses.fields(thing) if field.init}
    return set(inspect.signature(thing).parameters) - {"self", "cls"}


def test_there_is_much_to_look_at():
    assert len(EVERYTHING) > 1000
    assert sum(arguments(thing) is not None for _, thing in EVERYTHING) > 300


def test_tensors_have_shapes():
    assert shapeless(EVERYTHING) == []


def test_arguments_are_those_of_the_signature():
    wrong = {}
    for name, thing in EVERYTHING:
        listed = arguments(thing)
        if listed is not None and listed != parameters(thing):
            wrong[name] = sorted(listed ^ parameters(thing))
    assert wrong == {}


def test_names_of_the_package_are_explained():
    for name in sngd.__all__:
        text = doc(getattr(sngd, name))
        assert text.partition("\n")[0].endswith((".", ":", ")")), f"{name}: {text[:80]!r}"
        assert "Alias for" not in text, name


@pytest.mark.parametrize("module", PUBLISHED)
def test_methods_of_others_carry_their_source(module):
    loaded = importlib.import_module(f"sngd.{module}")
    texts = [doc(loaded), *(doc(thing) for _, thing in public(loaded.__name__))]
    assert any(SOURCE.search(text) for text in texts)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *architectures.__all__])
def test_optimizers_and_architectures_carry_their_source(name):
    if name in OWN_OPTIMIZERS:
        pytest.skip("a choice among the others")
    kind = type(named(name)) if name in OPTIMIZERS else getattr(architectures, name)
    if not callable(kind):
        pytest.skip("no class")
    module = importlib.import_module(kind.__module__)
    assert SOURCE.search(doc(kind) + doc(module)), f"{name} in {kind.__module__}"


@pytest.mark.parametrize("name", library.names())
def test_problems_carry_their_source(name):
    entry = library.entry(name)
    assert SOURCE.search(entry.background + entry.text)


def test_the_checks_find_what_is_missing():
    def scaled(x: "torch.Tensor", by: float) -> "torch.Tensor":  # noqa: F821
        """Scaled points.

        Args:
            x: points.
            factor: what by.
        """

    assert shapeless([("here.scaled", scaled)]) == ["here.scaled"]
    assert arguments(scaled) ^ parameters(scaled) == {"by", "factor"}
    scaled.__doc__ = "Points (n, d), scaled."
    assert shapeless([("here.scaled", scaled)]) == []
