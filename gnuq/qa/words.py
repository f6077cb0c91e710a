"""Texts as plain words, so that spelling does not decide whether two answers are the same."""

from __future__ import annotations

import re
import unicodedata

ARTICLES = {"a", "an", "the"}
#: Letters whose stroke or ligature Unicode does not take apart.
LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe"})
ACCENTS = re.compile("[\u0300-\u036f]")
#: Control characters stand for what is no punctuation, until the rest of it is gone.
POINT, MINUS = "\0", "\1"
RULES = (
    (re.compile(f"[{POINT}{MINUS}]"), " "),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"[.]{2,}"), " "),
    (re.compile(r"(?:(?<=\d)|(?<![^\s−–-]))[.](?=\d)"), POINT),
    (re.compile("[.'’ʼ`´]"), ""),
    (re.compile(r"(?<!\S)[-−–](?=[\d\0])"), MINUS),
    (re.compile("&"), " and "),
)
KEPT = {POINT: ".", MINUS: "-"}


def normalised(text: str) -> str:
    """Lower case, without articles, punctuation, accents and extra white space.

    As in the evaluation of SQuAD (Rajpurkar et al. 2016), with what short answers need besides:
    the point of 1.5 and the sign of −5 stay, 1,000 is 1000, & is "and", é is e, a hyphen parts
    words, and symbols such as % and $ are words. Where nothing would remain (the band The The),
    the articles stay.

    Args:
        text: in any script.

    Returns:
        Words with single blanks between them; empty if the text has neither letters, digits nor
        symbols.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = ACCENTS.sub("", folded).translate(LETTERS)
    for pattern, instead in RULES:
        plain = pattern.sub(instead, plain)
    words = "".join(map(_spaced, unicodedata.normalize("NFC", plain))).split()
    return " ".join([word for word in words if word not in ARTICLES] or words)


def one_line(text: str) -> str:
    """A text with single blanks instead of all white space, as a line of a prompt must be."""
    return " ".join(text.split())


def _spaced(character: str) -> str:
    """A symbol between blanks, punctuation as a blank, anything else as it is."""
    if character in KEPT:
        return KEPT[character]
    kind = unicodedata.category(character)
    if kind in ("Sc", "Sm", "So") or character in "%°#":
        return f" {character} "
    return " " if kind[0] in "PSZC" else character
