"""Replacing functions of other libraries: once, thread-safely, and only what is still ours put back."""

from __future__ import annotations

import inspect
import sys
import threading
from types import ModuleType

import pytest

from streamll.patching import PatchSite, PatchTable, SiteState


class Library:
    def greet(self, name: str) -> str:
        """Say hello."""
        return f"hello {name}"

    async def agreet(self, name: str) -> str:
        return f"hello {name}"


class Derived(Library):
    pass


def shout(original):
    def greet(self, name):
        return original(self, name).upper()

    return greet


@pytest.fixture
def library(monkeypatch):
    """A module that is installed, and its class."""
    module = ModuleType("patched_library")
    module.Library = type("Library", (), dict(vars(Library)))
    module.Derived = type("Derived", (module.Library,), {})
    module.helper = lambda: "help"
    monkeypatch.setitem(sys.modules, "patched_library", module)
    return module


def site(owner="Library", name="greet", wrapper=shout, **options):
    return PatchSite("patched_library", owner, name, wrapper, "why", "lost", **options)


def states(table):
    return [state for _, state in table.states()]


def test_the_replacement_keeps_name_and_documentation(library):
    table = PatchTable(site())
    assert table.install() == []
    assert library.Library().greet("you") == "HELLO YOU"
    assert library.Library.greet.__doc__ == "Say hello."
    assert inspect.signature(library.Library.greet) == inspect.signature(Library.greet)


def test_uninstalling_restores_the_original(library):
    original = library.Library.greet
    table = PatchTable(site())
    table.install()
    assert states(table) == [SiteState.ON]
    table.uninstall()
    assert library.Library.greet is original
    assert states(table) == [SiteState.OFF]
    table.uninstall()


def test_installing_again_replaces_nothing(library):
    table = PatchTable(site())
    table.install()
    ours = library.Library.greet
    table.install()
    assert library.Library.greet is ours


def test_many_threads_install_once(library):
    wrapped = []

    def counting(original):
        wrapped.append(original)
        return shout(original)

    table = PatchTable(site(wrapper=counting))
    barrier = threading.Barrier(8)

    def install():
        barrier.wait()
        table.install()

    threads = [threading.Thread(target=install) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrapped) == 1


def test_a_wrapper_of_another_library_is_left_alone(library):
    original = library.Library.greet
    table = PatchTable(site())
    table.install()
    ours = library.Library.greet

    def theirs(self, name):
        return f"<{ours(self, name)}>"

    library.Library.greet = theirs
    assert states(table) == [SiteState.WRAPPED]
    table.uninstall()
    assert library.Library.greet is theirs
    table.install()
    assert library.Library.greet is theirs
    assert library.Library().greet("you") == "<HELLO YOU>"
    library.Library.greet = ours
    table.uninstall()
    assert library.Library.greet is original


@pytest.mark.parametrize("uninstalled", [False, True], ids=["installed", "uninstalled"])
def test_what_somebody_else_put_back_is_replaced_again(library, uninstalled):
    original = library.Library.greet
    table = PatchTable(site())
    table.install()
    library.Library.greet = original
    assert states(table) == [SiteState.OFF]
    if uninstalled:
        table.uninstall()
    table.install()
    assert library.Library().greet("you") == "HELLO YOU"


def test_an_inherited_method_is_replaced_on_the_subclass_alone(library):
    table = PatchTable(site(owner="Derived"))
    table.install()
    assert library.Derived().greet("you") == "HELLO YOU"
    assert library.Library().greet("you") == "hello you"
    table.uninstall()
    assert "greet" not in vars(library.Derived)


def test_an_attribute_of_our_own_is_added_and_removed(library):
    table = PatchTable(site(name="volume", wrapper=lambda _: 11, added=True))
    table.install()
    assert library.Library.volume == 11
    table.uninstall()
    assert not hasattr(library.Library, "volume")


def test_a_function_of_a_module(library):
    table = PatchTable(site(owner=None, name="helper", wrapper=lambda original: lambda: "no help"))
    table.install()
    assert library.helper() == "no help"


def test_a_wrapper_that_returns_the_original_replaces_nothing(library):
    original = library.Library.greet
    table = PatchTable(site(wrapper=lambda function: function))
    table.install()
    assert library.Library.greet is original
    assert states(table) == [SiteState.NOT_NEEDED]
    table.uninstall()
    assert library.Library.greet is original


def test_a_missing_site_is_reported_once(library):
    gone = site(name="no_such_method")
    table = PatchTable(gone, site(owner="NoSuchClass"), site())
    assert [str(each) for each in table.install()] == [
        "patched_library.Library.no_such_method",
        "patched_library.NoSuchClass.greet",
    ]
    assert table.install() == []
    assert states(table) == [SiteState.MISSING, SiteState.MISSING, SiteState.ON]


def test_a_package_that_is_not_installed_is_no_loss():
    table = PatchTable(PatchSite("no_such_package.part", "C", "f", shout, "why", "lost"))
    assert table.install() == []
    assert states(table) == [SiteState.NOT_INSTALLED]


def test_two_names_of_one_module_are_one_site(library, monkeypatch):
    """``httpx2.alias_httpx()`` makes ``httpx`` another name of ``httpx2``."""
    monkeypatch.setitem(sys.modules, "patched_alias", library)
    table = PatchTable(site(), PatchSite("patched_alias", "Library", "greet", shout, "why", "lost"))
    original = library.Library.greet
    table.install()
    assert states(table) == [SiteState.ON, SiteState.ON]
    table.uninstall()
    assert library.Library.greet is original
