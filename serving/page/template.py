"""The templates of a page: its own, and those that all pages share. Whatever is put into them is escaped."""

from typing import TYPE_CHECKING

from serving.page.names import file_name, shortened, visible

if TYPE_CHECKING:
    import jinja2


def environment(package: str) -> "jinja2.Environment":
    """What gives a page's templates.

    Args:
      package: with the page's own templates, in its folder `templates`. They may extend `page.html`, and take macros
        from `parts.html`.
    """
    import jinja2

    loaders = [jinja2.PackageLoader(package), jinja2.PackageLoader("serving.page")]
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters["count"] = "{:,}".format
    made.filters["number"] = lambda value: "–" if value is None else f"{value:.3f}"
    made.filters["share"] = lambda value: "–" if value is None else f"{value:.1%}"
    made.filters["visible"] = visible
    made.filters["shortened"] = shortened
    made.filters["file_name"] = file_name
    return made
