"""How files are kept that `collectstatic` has gathered: under names that change with their content, and compressed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.staticfiles.storage import HashedFilesMixin
from whitenoise.storage import CompressedManifestStaticFilesStorage  # type: ignore[import-untyped]

BUNDLED = "graphiql/"
"""What a bundler has made: its parts name each other, most of them by names that hold their content's hash already."""


class StaticFiles(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """A browser keeps each file for good, and asks for a new one by a new name.

    In the page's modules the names that they import are rewritten. GraphiQL's files keep theirs, or it would load its
    entry twice: once as the page names it, once as its own parts do.
    """

    patterns = (
        *HashedFilesMixin.patterns,
        ("account_recovery/*.js", ((r"""(?P<matched>from "(?P<url>\./[^"]+)")""", 'from "%(url)s"'),)),
    )

    def post_process(self, paths: dict[str, Any], *args: Any, **options: Any) -> Iterator[Any]:
        bundled = {name for name in paths if name.startswith(BUNDLED)}
        yield from super().post_process({name: paths[name] for name in paths.keys() - bundled}, *args, **options)
        if not options.get("dry_run"):
            for name, compressed in self.compress_files(bundled):
                yield name, compressed, True

    def stored_name(self, name: str) -> str:
        if name.startswith(BUNDLED):
            return name
        try:
            return str(super().stored_name(name))
        except ValueError:
            return name  # nothing was collected: a page without its style is better than none
