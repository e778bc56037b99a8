"""`python -m handbook`: lay the pages out in build/handbook and build them, strictly, into build/site."""

import logging
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config

from handbook.pages import ROOT, lay_out


def build_site(directory: Path) -> Path:
    """Where the site is. Raises mkdocs' Abort where a link leads nowhere or a page is in no menu."""
    pages, site = directory / "handbook", directory / "site"
    lay_out(pages)
    config = load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(site), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return site


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    build_site(ROOT / "build")
