"""Replacing functions of other libraries, and putting them back: the one mechanism for it.

What streamll replaces stands in two tables: ``capture/hooks/places.py`` (capturing) and
``testing/record_sites.py`` (recording and replaying). This module knows neither.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple

ABSENT: Any = object()
"""What a wrapper gets, and uninstalling restores, where an ``added`` attribute did not exist."""


class PatchSite(NamedTuple):
    """One attribute of another library that is replaced while streamll works."""

    module: str
    owner: str | None
    """The class in ``module``, by its qualified name; ``None`` for an attribute of the module itself."""
    name: str
    wrapper: Callable[[Any], Any]
    """Makes the replacement from the original; returns the original where none is needed."""
    why: str
    lost: str
    """What does not work where the attribute does not exist."""
    added: bool = False
    """The attribute is streamll's own: the library is not expected to have it."""
    optional: bool = False
    """Not every version of the library that the table is for has it; it is not missed."""

    def __str__(self) -> str:
        return ".".join(filter(None, (self.module, self.owner, self.name)))

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def resolve(self) -> Any:
        """The class or module that has the attribute; ``None`` if there is none."""
        try:
            module = sys.modules.get(self.module) or importlib.import_module(self.module)
        except ImportError:
            return None
        owner: Any = module
        for name in self.owner.split(".") if self.owner is not None else ():
            owner = getattr(owner, name, None)
        return owner if self.added or hasattr(owner, self.name) else None


class SiteState(Enum):
    ON = "on"
    OFF = "off"
    WRAPPED = "on, inside a wrapper of another library"
    NOT_NEEDED = "not needed here"
    NOT_INSTALLED = "not installed"
    MISSING = "missing"


class _Patch(NamedTuple):
    original: Any
    replacement: Any


class PatchTable:
    """Sites that are replaced together. Thread-safe; installing twice replaces once."""

    def __init__(self, *sites: PatchSite) -> None:
        self.sites = sites
        self._lock = threading.Lock()
        self._patches: dict[tuple[Any, str], _Patch] = {}
        self._unavailable: set[PatchSite] = set()

    def install(self) -> list[PatchSite]:
        """Replace what is not replaced yet, and again what somebody else has put back.

        Returns the sites now found missing for the first time, of packages that are installed.
        """
        with self._lock:
            missing = [site for site in self.sites if not self._install(site)]
            self._unavailable.update(missing)
        return [site for site in missing if _is_installed(site.package)]

    def _install(self, site: PatchSite) -> bool:
        if site in self._unavailable:
            return True
        if (owner := site.resolve()) is None:
            return site.optional
        found = vars(owner).get(site.name, ABSENT)
        patch = self._patches.get((owner, site.name))
        if patch is None:
            original = getattr(owner, site.name, ABSENT)
            replacement = site.wrapper(original)
            if inspect.isroutine(original) and replacement is not original:
                functools.update_wrapper(replacement, original)
            patch = self._patches[owner, site.name] = _Patch(found, replacement)
        if found is patch.original and found is not patch.replacement:
            setattr(owner, site.name, patch.replacement)
        return True

    def uninstall(self) -> None:
        """Restore the originals.

        A site that another library has wrapped since is left alone: our wrapper stays inside
        that one's, where it does nothing outside a captured call, and is not installed again
        on top of it.
        """
        with self._lock:
            for (owner, name), patch in list(self._patches.items()):
                found = vars(owner).get(name, ABSENT)
                if found is patch.replacement and found is not patch.original:
                    if patch.original is ABSENT:
                        delattr(owner, name)
                    else:
                        setattr(owner, name, patch.original)
                elif found is not patch.original:
                    continue
                del self._patches[owner, name]
            self._unavailable.clear()

    def states(self) -> Iterator[tuple[PatchSite, SiteState]]:
        for site in self.sites:
            yield site, self._state(site)

    def _state(self, site: PatchSite) -> SiteState:
        if not _is_installed(site.package):
            return SiteState.NOT_INSTALLED
        if (owner := site.resolve()) is None:
            return SiteState.NOT_NEEDED if site.optional else SiteState.MISSING
        patch = self._patches.get((owner, site.name))
        found = vars(owner).get(site.name, ABSENT)
        if patch is None:
            return SiteState.OFF
        if patch.original is patch.replacement:
            return SiteState.NOT_NEEDED
        if found is patch.original:
            return SiteState.OFF
        return SiteState.ON if found is patch.replacement else SiteState.WRAPPED


def _is_installed(package: str) -> bool:
    return sys.modules.get(package) is not None or importlib.util.find_spec(package) is not None
