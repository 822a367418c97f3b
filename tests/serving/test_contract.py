"""The contract as a document: canonical, versioned, refused when it can't be kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.contract import (
    ALGORITHMS,
    Embeddings,
    Golden,
    ModelContract,
    Preprocessing,
    SignatureRef,
    golden_distance,
)
from serving.errors import ContractError, UsageError

CONTRACT = ModelContract(labels=["cat", "dog"], preprocessing=Preprocessing(height=8, width=8))


def changed(**fields: object) -> str:
    return json.dumps(json.loads(CONTRACT.to_json()) | fields)


def test_a_contract_survives_json() -> None:
    assert ModelContract.from_json(CONTRACT.to_json()) == CONTRACT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        (changed(schema_version=2), "schema version 2"),
        (changed(labels=["cat", "cat"]), "labels must be distinct"),
        (changed(labels=["cat"]), "labels"),
        (changed(surprise=1), "surprise"),
        (changed(preprocessing={"height": 8, "width": 8, "algorithm": 2}), "algorithm 2 for orientation ignore"),
        (
            changed(preprocessing={"height": 8, "width": 8, "orientation": "exif", "algorithm": 1}),
            "algorithm 1 .* exif",
        ),
        (changed(preprocessing={"height": 8, "width": 8, "resize": "bicubic"}), "preprocessing.resize"),
    ],
)
def test_a_contract_that_cannot_be_kept_is_refused(text: str, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        ModelContract.from_json(text)


@pytest.mark.parametrize(
    "other", [{"height": 9}, {"width": 9}, {"orientation": "exif"}, {"value_range": (-1.0, 1.0)}], ids=str
)
def test_a_fingerprint_changes_with_every_parameter(other: dict[str, object]) -> None:
    same = Preprocessing.model_validate({"height": 8, "width": 8})
    assert same.fingerprint == CONTRACT.preprocessing.fingerprint
    assert Preprocessing.model_validate({"height": 8, "width": 8} | other).fingerprint != same.fingerprint


def test_a_model_that_turns_images_is_of_another_algorithm_than_an_older_one() -> None:
    """A release that looks for the tag in more places must not ask a model that was trained before it."""
    size = {"height": 8, "width": 8}
    assert Preprocessing.model_validate(size).algorithm == ALGORITHMS["ignore"] == 1
    assert Preprocessing.model_validate(size | {"orientation": "exif"}).algorithm == ALGORITHMS["exif"] == 2


def test_what_older_releases_exported_keeps_its_fingerprint_and_text() -> None:
    assert CONTRACT.preprocessing.fingerprint == "512f7d8233c087a2"
    assert CONTRACT.fingerprint == "d492debbad3af9ae"
    assert not {"activation", "batch", "embeddings"} & set(CONTRACT.to_json().replace('"', " ").split())


def test_models_of_other_labels_or_answers_have_other_fingerprints() -> None:
    golden = Golden(count=1, references={"float32": [[0.5, 0.5]]}, tolerance=0.01, controls={})
    others = [
        CONTRACT.model_copy(update={"labels": ["dog", "cat"]}),
        CONTRACT.model_copy(update={"golden": golden}),
        CONTRACT.model_copy(update={"signatures": {"uint8": SignatureRef(name="a", input="b", output="c")}}),
    ]
    assert len({CONTRACT.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert CONTRACT.model_copy(update={"versions": {"numpy": "1"}}).fingerprint == CONTRACT.fingerprint


def test_a_missing_wire_form_names_those_there_are() -> None:
    plain = CONTRACT.model_copy(update={"signatures": {"uint8": SignatureRef(name="a", input="b", output="c")}})
    with pytest.raises(ContractError, match="`wire` float32; it has uint8"):
        plain.signature("float32")


def test_embeddings_are_asked_for_by_signatures_of_their_own() -> None:
    contract = CONTRACT.model_copy(update={"embeddings": Embeddings(width=3)})
    assert ModelContract.from_json(contract.to_json()) == contract
    assert contract.signature("uint8") == CONTRACT.signature("uint8")
    asked = contract.signature("uint8", embeddings=True)
    assert (asked.name, asked.output, asked.embeddings) == ("serving_uint8_embeddings", "probabilities", "embeddings")
    assert contract.fingerprint != CONTRACT.fingerprint


def test_a_model_without_embeddings_says_how_to_get_them() -> None:
    with pytest.raises(UsageError, match=r"`embeddings`: .* train it again with this release"):
        CONTRACT.signature("float32", embeddings=True)


def test_a_signature_of_embeddings_has_to_give_them() -> None:
    plain = SignatureRef(name="a", input="b", output="c").model_dump()
    with pytest.raises(ContractError, match="must name its output"):
        ModelContract.from_json(changed(embeddings={"width": 3, "signatures": {"uint8": plain}}))


def test_golden_distance_is_the_mean_of_the_largest_changes() -> None:
    assert golden_distance([[0.5, 0.5], [1, 0]], [[0.4, 0.6], [1, 0]]) == pytest.approx(0.05)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_golden_distance_of_the_same_answers_is_zero(answers: list[list[float]]) -> None:
    assert golden_distance(answers, answers) == 0
