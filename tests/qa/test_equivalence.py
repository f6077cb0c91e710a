"""Clusters by meaning, with tests of equivalence whose verdicts are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DebertaConfig,
    DebertaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from gnuq.language_models import ModelError
from gnuq.qa import equivalence
from gnuq.qa.embeddings import SentenceEncoder, added, sentence_encoder
from gnuq.qa.equivalence import Entailment, Similarity, clusters

QUESTION = "What is the capital of France?"
LABELS = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "Entailment"}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz?.", "##s"]
SIZES: dict[str, Any] = {
    "vocab_size": len(PIECES),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
}


class Told:
    """Equivalence by a function of two texts; keeps what it was asked."""

    def __init__(self, same: Callable[[str, str], bool]) -> None:
        self.same, self.asked = same, []

    def __call__(self, question: str, sample: str, heads: Sequence[str]) -> list[bool]:
        self.asked.append((sample, list(heads)))
        return [self.same(sample, head) for head in heads]


def tokenizer() -> PreTrainedTokenizerFast:
    """Word pieces for pairs of texts: letters and an s."""
    pieces = {piece: i for i, piece in enumerate([*PIECES, *(f"##{x}" for x in PIECES[4:30])])}
    made = Tokenizer(models.WordPiece(vocab=pieces, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def nli(kind: str = "deberta", labels: dict[int, str] = LABELS) -> Any:
    """A tiny random classifier of pairs, its head large enough for all classes to occur."""
    torch.manual_seed(0)
    shape = {**SIZES, "vocab_size": 60, "id2label": labels, "num_labels": len(labels)}
    made: Any = (
        DebertaForSequenceClassification(DebertaConfig(**shape, relative_attention=True))
        if kind == "deberta"
        else BertForSequenceClassification(BertConfig(**shape))
    )
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.7)
    return made.double().eval()


def test_each_joins_the_first_cluster_whose_first_member_it_equals() -> None:
    """Only first members are compared, in order: 2 joins 1, 3 equals 2 and yet stands alone."""
    same = Told(lambda a, b: abs(int(a) - int(b)) <= 1)
    assert clusters(QUESTION, ["1", "2", "3", "4", "0"], same) == [0, 0, 1, 1, 0]
    assert same.asked == [("2", ["1"]), ("3", ["1"]), ("4", ["1", "3"]), ("0", ["1", "3"])]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_a_true_equivalence_gives_its_classes(values: list[int], modulus: int) -> None:
    found = clusters(QUESTION, [str(v) for v in values], Told(lambda a, b: same_class(a, b)))
    assert [found[i] == found[j] for i in range(len(values)) for j in range(i)] == [
        values[i] % 5 == values[j] % 5 for i in range(len(values)) for j in range(i)
    ]
    assert list(dict.fromkeys(found)) == list(range(len(set(found))))


def same_class(a: str, b: str) -> bool:
    return int(a) % 5 == int(b) % 5


def test_equal_strings_are_the_same_unasked() -> None:
    same = Told(lambda a, b: False)
    found = clusters(QUESTION, ["Paris", "paris.", "The  Paris", "Lyon", "PARIS", "?!", "?!"], same)
    assert found == [0, 0, 0, 1, 0, 2, 2]
    assert [sample for sample, _ in same.asked] == ["Lyon", "?!"]


@pytest.mark.bad_input
def test_a_blank_answer_means_nothing() -> None:
    with pytest.raises(ValueError, match="samples: sample 1 is blank"):
        clusters(QUESTION, ["Paris", " "], Told(lambda a, b: True))


class Angles:
    """Embeds a question as the third axis and "question answer" 60° off it, turned by an angle."""

    def __init__(self, **angles: float) -> None:
        self.angles, self.seen = angles, []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        return np.array([self.vector(text) for text in texts])

    def vector(self, text: str) -> tuple[float, float, float]:
        name = text.removeprefix(QUESTION).strip()
        if name not in self.angles:
            return 0.0, 0.0, 1.0
        turned = np.radians(self.angles[name])
        return 0.75**0.5 * np.cos(turned), 0.75**0.5 * np.sin(turned), 0.5


def test_similarity_is_the_cosine_of_what_answers_add_to_the_question() -> None:
    """The cosine of the angle between them, although with the question all are above 0.25."""
    encoder = Angles(a=0, b=59, c=61)
    vectors = added(encoder, QUESTION, ["a", "b", "c", "nothing"])
    np.testing.assert_allclose(vectors[:, 2], 0, atol=1e-12)
    np.testing.assert_allclose(vectors[:3] @ vectors[0], [1, *np.cos(np.radians([59, 61]))])
    np.testing.assert_array_equal(vectors[3], 0)
    same = Similarity(encoder, threshold=0.5)
    assert same(QUESTION, "a", ["b", "c", "a"]) == [True, False, True]
    assert same(QUESTION, "c", ["b", "nothing"]) == [True, False]
    assert clusters(QUESTION, ["a", "b", "c"], Similarity(encoder, 0.5)) == [0, 0, 1]


def test_a_text_is_encoded_once_a_question() -> None:
    encoder = Angles(a=0, b=59)
    same = Similarity(encoder)
    for _ in range(2):
        same(QUESTION, "a", ["b", "a"])
        same(QUESTION, "b", ["a"])
    assert encoder.seen == [QUESTION, f"{QUESTION} a", f"{QUESTION} b"]
    same("Another?", "a", ["b"])
    assert encoder.seen[3:] == ["Another?", "Another? a", "Another? b"]


@pytest.mark.bad_input
def test_a_threshold_is_a_cosine() -> None:
    with pytest.raises(ValueError, match="threshold: 1.5 is no cosine"):
        Similarity(lambda texts: np.eye(2), 1.5)


def test_sentence_vectors_are_means_of_length_one_however_they_are_batched() -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig(**{**SIZES, "vocab_size": 60})).double().eval()
    pieces, texts = tokenizer(), ["ab c?", "a", "abcs def", "a", "zz y x w"]
    found = SentenceEncoder(model, pieces, batch_size=2)(texts)
    for text, vector in zip(texts, found, strict=True):
        given = pieces(text, return_tensors="pt")
        with torch.no_grad():
            mean = model(**given).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-12)
    with pytest.raises(ValueError, match="texts: there are none"):
        SentenceEncoder(model, pieces)([])


def test_minilm_tells_real_answers_apart() -> None:
    """And takes a denial for the same, as its docstring warns."""
    same = Similarity(sentence_encoder("cpu"))
    question = "Who wrote Hamlet?"
    answers = ["William Shakespeare", "Shakespeare", "Christopher Marlowe", "It was Shakespeare."]
    assert clusters(question, answers, same) == [0, 0, 1, 0]
    assert same("Do penguins fly?", "Penguins can fly", ["Penguins cannot fly"]) == [True]


@pytest.mark.parametrize("kind", ["deberta", "bert"])
def test_entailment_asks_both_directions(kind: str) -> None:
    """Against the classifier called by hand, pair by pair, without padding."""
    model, pieces = nli(kind), tokenizer()
    samples = ["ab", "a bcd", "f", "xyz w", "q?", "abcdefgh", "ss t", "m n o"]

    def label(premise: str, hypothesis: str) -> str:
        made = pieces(f"who? {premise}", f"who? {hypothesis}", return_tensors="pt")
        with torch.no_grad():
            return LABELS[int(model(**made).logits.argmax())].lower()

    seen = set()
    for sample in samples:
        both = [{label(sample, other), label(other, sample)} for other in samples]
        seen |= set().union(*both)
        strict = Entailment(model, pieces, batch_size=3)("who?", sample, samples)
        assert strict == [one == {"entailment"} for one in both]
        loose = Entailment(model, pieces, strict=False)("who?", sample, samples)
        assert loose == ["contradiction" not in one and "entailment" in one for one in both]
    assert len(seen) > 1


def test_the_class_goes_by_its_name() -> None:
    """In any case and at any number; another order of the same logits' names, other verdicts."""
    for labels in ({0: "entailment", 1: "not_entailment"}, {0: "no", 1: "ENTAILMENT"}):
        model = nli(labels=labels)
        with torch.no_grad():
            model.classifier.weight.zero_()
            model.classifier.bias.copy_(torch.tensor([1.0, 0.0]))
        found = Entailment(model, tokenizer())("who?", "a", ["b"])
        assert found == [labels[0] == "entailment"]


@pytest.mark.bad_input
def test_what_cannot_be_asked_is_named() -> None:
    named = nli(labels={0: "LABEL_0", 1: "LABEL_1"})
    with pytest.raises(ValueError, match=r"none of its classes \(label_0, label_1\) is called ent"):
        Entailment(named, tokenizer())("who?", "a", ["b"])
    with pytest.raises(ValueError, match="the entailment model reads 64; leave this question out"):
        Entailment(nli(), tokenizer())("who?", "a b " * 40, ["c"])


def test_loading_an_entailment_model(tmp_path: Path) -> None:
    """From a folder, as from the hub; what is missing is told with the remedy."""
    nli().float().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = equivalence.entailment(str(tmp_path), "cpu")
    assert isinstance(loaded.model, DebertaForSequenceClassification)
    assert not loaded.model.training
    expected = Entailment(nli().float(), tokenizer())
    heads = ["ab", "xyz w", "q?"]
    assert loaded("who?", "f", heads) == expected("who?", "f", heads)
    nli(labels={0: "good", 1: "bad"}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="good, bad"):
        equivalence.entailment(str(tmp_path), "cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty is not a model that this transformers knows"):
        equivalence.entailment(str(tmp_path / "empty"), "cpu")
