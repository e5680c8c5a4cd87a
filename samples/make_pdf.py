"""Writes coffee-manual.pdf with nothing but the standard library.

Run it after changing the text below: python3 samples/make_pdf.py. The output depends on the text alone.
"""

import textwrap
from pathlib import Path

TITLE = "Coffee brewing manual"

PAGES = [
    [
        ("h1", "Coffee brewing manual"),
        ("p", "This manual covers the pour-over, the press and the moka pot. All three follow the same rule: water takes "
              "what is pleasant out of the grounds first and what is harsh last. Brewing well means to stop in time."),
        ("h2", "Ratio and water"),
        ("p", "Use 60 grams of coffee for one litre of water and change one thing at a time from there. Water should be "
              "soft and fresh. At 92 to 96 degrees it works quickly; just under boiling is right for light roasts, a "
              "little cooler for dark ones."),
        ("h2", "Grind size"),
        ("p", "Pour-over: like coarse sand. Press: like breadcrumbs. Moka pot: finer than sand, but not powder. A burr "
              "grinder makes grains of one size; a blade makes dust and lumps together, and they brew at different "
              "speeds."),
        ("h2", "Storage"),
        ("p", "Keep beans whole, dark and closed. Ground coffee loses most of its smell within an hour. The freezer is "
              "fine for months if the bag is airtight; the refrigerator is not, because the beans take up moisture and "
              "odours."),
    ],
    [
        ("h1", "Troubleshooting"),
        ("h2", "Harsh and dry"),
        ("p", "A cup that is harsh, dry and astringent was extracted for too long. Grind coarser, pour faster, or lower "
              "the temperature by two degrees. Dark roasts reach this point sooner than light ones. Old oil in the "
              "grinder tastes the same: clean it before you blame the beans."),
        ("h2", "Sour and thin"),
        ("p", "A cup that is sour, salty or thin was not extracted far enough. Grind finer, use hotter water, or wait "
              "longer. If it is thin but not sour, take more coffee."),
        ("h2", "Water runs through too slowly"),
        ("p", "The bed is clogged with fine dust. Pour more gently so that the dust does not sink to the bottom, rinse "
              "the paper filter first, and do not stir at the end."),
        ("h2", "No two cups alike"),
        ("p", "Weigh the beans and the water, and take the time. A spoon holds between 4 and 7 grams of beans, depending "
              "on the roast."),
    ],
    [
        ("h1", "Care and safety"),
        ("h2", "Descaling"),
        ("p", "White crust in the kettle is limescale. Fill it with one part citric acid and twenty parts water, warm it "
              "to 50 degrees, wait half an hour, and rinse twice. Do not boil the acid: it forms a salt that is harder "
              "to remove than the crust was."),
        ("h2", "Moka pot"),
        ("p", "Never press the coffee down, and never cover the valve. The seal is replaced once a year. Wash the pot "
              "with water only; detergent stays in the pores of the aluminium."),
        ("h2", "How much is too much"),
        ("p", "A cup holds 80 to 120 milligrams of caffeine, and half of it is still in the blood after five hours. Those "
              "who sleep badly stop at two in the afternoon. Up to 400 milligrams a day are considered safe for healthy "
              "adults."),
    ],
]

FONTS = {"h1": ("F2", 20, 28), "h2": ("F2", 13, 24), "p": ("F1", 11, 15)}
WRAP = {"h1": 50, "h2": 70, "p": 86}
LEFT, TOP = 60, 780


def escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def page_stream(page: list) -> bytes:
    """The drawing operators of a page, one text object a line."""
    lines, y = [], TOP
    for style, text in page:
        font, size, height = FONTS[style]
        for line in textwrap.wrap(text, WRAP[style]):
            y -= height
            lines.append(f"BT /{font} {size} Tf {LEFT} {y} Td ({escaped(line)}) Tj ET")
        y -= 6
    return "\n".join(lines).encode("latin-1")


def document() -> bytes:
    """Objects: 1 catalog, 2 page tree, 3 and 4 fonts, 5 information, then a page and its stream in turn."""
    first_page = 6
    kids = " ".join(f"{first_page + 2 * i} 0 R" for i in range(len(PAGES)))
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /{} /Encoding /WinAnsiEncoding >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(PAGES)} >>".encode(),
        font.format("Helvetica").encode(),
        font.format("Helvetica-Bold").encode(),
        f"<< /Title ({escaped(TITLE)}) >>".encode(),
    ]
    for i, page in enumerate(PAGES):
        stream = page_stream(page)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {first_page + 2 * i + 1} 0 R "
            "/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out, offsets = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


if __name__ == "__main__":
    Path(__file__).with_name("coffee-manual.pdf").write_bytes(document())
