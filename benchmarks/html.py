"""Speed and faithfulness of HTML to Markdown: see `html_conversion.py`, which this runs.

    .venv/bin/python benchmarks/html.py ../shared/data/stackexchange

A script's own folder comes first on the path, so this file also answers `import html` of every
benchmark here; it then hands over to the standard library's package.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path


def use_standard_library() -> None:
    """Put the real `html` package in the place of this file."""
    folder = Path(sysconfig.get_paths()["stdlib"]) / "html"
    spec = importlib.util.spec_from_file_location(
        "html", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["html"] = module
    spec.loader.exec_module(module)


if __name__ == "html":
    use_standard_library()
elif __name__ == "__main__":
    use_standard_library()
    from html_conversion import main

    main()
