"""Takes pictures of the pages of a document:

flask evidence export anna@kunde.example --pdf --locale de --out /tmp/proof
.venv/bin/python docs/screenshots/pages.py /tmp/proof/evidence.pdf evidence-de
"""

from __future__ import annotations

import sys
from pathlib import Path

import pypdfium2

FOLDER = Path(__file__).parent
# 72 points are an inch, so this is 110 dots to it.
SCALE = 110 / 72


def main(path: str, name: str) -> None:
    document = pypdfium2.PdfDocument(path)
    for number, page in enumerate(document, start=1):
        picture = page.render(scale=SCALE).to_pil().quantize(64)
        picture.save(FOLDER / f"{name}-{number}.png", optimize=True)
        page.close()
    document.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
