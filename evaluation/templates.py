"""A page's template by its name: the .j2 files of this package, which share styles.css.j2.

In: the name of a file. Out: a template that escapes what it is given and refuses a name that it is not. Called by
report.py and ingest_page.py.
"""

from collections.abc import Callable, Mapping

import jinja2


def template(name: str, filters: Mapping[str, Callable[..., object]] | None = None) -> jinja2.Template:
    """Return a template of this package.

    name     file name
    filters  further ones, by the name that the template calls
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evaluation", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(filters or {})
    return environment.get_template(name)
