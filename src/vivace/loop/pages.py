"""How the loop's pages are rendered: one layout, everything inside the file, figures drawn by Plotly."""

from collections.abc import Mapping
from typing import Any

from vivace import __version__


def render(template: str, figures: Mapping[str, str | None], **values: Any) -> str:
    """Return the page of a template below this package; `figures` are Plotly's in JSON by the id of their place.

    What a template names and nobody gives is an error; texts are escaped.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vivace.loop", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    # A figure's texts are data: none of them may end the script that it stands in.
    drawn = {name: figure.replace("</", "<\\/") if figure else None for name, figure in figures.items()}
    return environment.get_template(template).render(
        version=__version__, plotly=get_plotlyjs(), figures=drawn, **values
    )
