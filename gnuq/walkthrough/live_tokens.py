"""The token figure's data: a few recorded answers, split over tokens, pairs of tokens and weights.

The records name questions by number and hold no text, so neither does the figure; an answer's text
is decoded from its token ids.
"""

from __future__ import annotations

from typing import Any

from gnuq import artefacts
from gnuq.display import rounded
from gnuq.results import language
from gnuq.scoring.tokens import texts

#: Significant digits of a number on the page.
DIGITS = 4


def token_options(tokenizer: Any) -> dict[str, Any]:
    """What the token figure shows of the answers that `chosen` names; JSON types only.

    Args:
        tokenizer: of the model that the records are of.

    Returns:
        answers, one dictionary each: question, its number in TruthfulQA; what `tokens_of` and
        `layers_of` give; products, ⟨∇p_t, ∇p_s⟩ as T lists of T numbers, or None where no record
        has them.

    Raises:
        ArtefactError: a record is missing or torn.

    Source:
        §3.4, Eq. (10).
    """
    paired = set(language.cosines()["id"])
    answers = [
        {
            "question": question,
            **tokens_of(question, tokenizer),
            "products": _products(question) if question in paired else None,
            **layers_of(question),
        }
        for question in chosen()
    ]
    return {"answers": answers}


def chosen() -> list[int]:
    """The answers to show, by the number of their question.

    Every answer of two tokens or more whose products of tokens are recorded; and, of all other
    recorded answers, the one with the smallest and the one with the largest share of cross terms.
    """
    paired = sorted(set(language.cosines()["id"]))
    cross = language.sequences()["cross"].drop(paired)
    return [int(i) for i in (*paired, cross.idxmin(), cross.idxmax())]


def tokens_of(question: int, tokenizer: Any) -> dict[str, Any]:
    """One answer token by token.

    Args:
        question: its number.
        tokenizer: of the model that the records are of.

    Returns:
        Lists of T: tokens, their texts; probability, aleatoric and squared_norm: p_t,
        p_t (1 − p_t), ‖∇p_t‖²; share: (1/T) ⟨∇p_t, ∇p̄⟩, which sum to ‖∇p̄‖². And prompt: what of
        ‖∇p̄‖² arises at the prompt's positions.
    """
    table = language.tokens()
    rows = table[table["id"] == question]
    answer = rows[rows["part"] == "answer"]
    ids = language.answers().set_index("id")["answer"][question]
    columns = ("probability", "aleatoric", "squared_norm", "share")
    return {
        "tokens": texts(tokenizer, [int(i) for i in ids]),
        **{name: rounded(answer[name], DIGITS) for name in columns},
        "prompt": rounded([rows.loc[rows["part"] == "prompt", "position_share"].sum()], DIGITS)[0],
    }


def layers_of(question: int) -> dict[str, Any]:
    """The same answer by the weights that carry ‖∇p̄‖².

    Returns:
        blocks: by kind of module, a list with one number a block, the first block first; outside:
        by name, the number of each module outside the blocks. All together sum to ‖∇p̄‖².
    """
    record = artefacts.load("records", f"sequences/{language.MODEL}-layers").frame
    rows = record[record["id"] == question].assign(
        block=lambda table: table["layer"].str.extract(r"^layer (\d+)$")[0].astype(float)
    )
    inside = rows.dropna(subset="block").sort_values("block", kind="stable")
    outside = rows[rows["block"].isna()]
    blocks = {
        str(kind): rounded(part["epistemic"], DIGITS)
        for kind, part in inside.groupby("kind", sort=False)
    }
    numbers = rounded(outside["epistemic"], DIGITS)
    return {"blocks": blocks, "outside": dict(zip(outside["kind"], numbers, strict=True))}


def _products(question: int) -> list[list[float]]:
    return [rounded(row, DIGITS) for row in language.products(question)]
