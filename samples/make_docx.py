"""Writes travel-policy.docx with nothing but the standard library.

Run it after changing the text below: python3 samples/make_docx.py. The output depends on the text alone.
"""

import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

TITLE = "Travel and expenses"

PARAGRAPHS = [
    ("Heading1", "Travel and expenses"),
    ("Normal", "What the company pays when you travel for it, and what it needs from you. Valid for everybody, the "
               "management included."),
    ("Heading2", "Trains and planes"),
    ("Normal", "Take the train when it needs less than five hours from door to door, second class. From five hours on you "
               "may fly, in economy. Electronic tickets are fine: forward the confirmation, a printout is not needed."),
    ("Heading2", "Hotels"),
    ("Normal", "Up to 130 euros a night including breakfast, 180 in the cities of appendix B. If everything within reach "
               "costs more, book the cheapest and add a sentence that says so."),
    ("Heading2", "Meals"),
    ("Normal", "A daily allowance is paid without receipts: 28 euros for a full day, 14 for the days of arrival and "
               "departure. When somebody else pays for lunch, 11 euros are taken off."),
    ("Heading2", "Receipts"),
    ("Normal", "Hand in everything within 30 days after the return, with form T-18. A photo of the receipt is enough. When "
               "a receipt is lost, a signed statement replaces it up to 50 euros."),
    ("Heading2", "Not covered"),
    ("Normal", "Fines, the minibar, upgrades, and the journey of a companion."),
]

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
HEADER = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def body() -> str:
    return "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'
        for style, text in PARAGRAPHS
    )


def style(name: str, shown: str, outline: str = "") -> str:
    return (
        f'<w:style w:type="paragraph" w:styleId="{name}"><w:name w:val="{shown}"/>'
        f"<w:pPr>{outline}</w:pPr></w:style>"
    )


PARTS = {
    "[Content_Types].xml": HEADER
    + '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>'
    '<Override PartName="/word/styles.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml"/>'
    '<Override PartName="/docProps/core.xml" ContentType="application/vnd.openxmlformats-package.core-properties+xml"/>'
    "</Types>",
    "_rels/.rels": HEADER
    + f'<Relationships xmlns="{RELATIONS}">'
    f'<Relationship Id="rId1" Type="{OFFICE}/officeDocument" Target="word/document.xml"/>'
    f'<Relationship Id="rId2" Type="{RELATIONS}/metadata/core-properties" Target="docProps/core.xml"/></Relationships>',
    "word/_rels/document.xml.rels": HEADER
    + f'<Relationships xmlns="{RELATIONS}">'
    f'<Relationship Id="rId1" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
    "word/document.xml": HEADER + f'<w:document xmlns:w="{WORD}"><w:body>{body()}</w:body></w:document>',
    "word/styles.xml": HEADER
    + f'<w:styles xmlns:w="{WORD}">'
    + style("Normal", "Normal")
    + style("Heading1", "heading 1", '<w:outlineLvl w:val="0"/>')
    + style("Heading2", "heading 2", '<w:outlineLvl w:val="1"/>')
    + "</w:styles>",
    "docProps/core.xml": HEADER
    + '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
    f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(TITLE)}</dc:title></cp:coreProperties>',
}


if __name__ == "__main__":
    with zipfile.ZipFile(Path(__file__).with_name("travel-policy.docx"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in PARTS.items():
            # A fixed time makes the same text the same file.
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
