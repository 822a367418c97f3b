"""Where images belong."""

import itertools
import unicodedata

from beam_jobs.sort.places import Sorted, find_places
from beam_jobs.sort.safe_names import same_name


def placed(*images: Sorted) -> dict[str, str]:
    with find_places(images) as places:
        return {place.path: f"{place.folder}/{place.name}" for place in places}


def of(label: str, *paths: str) -> list[Sorted]:
    return [Sorted(path, "label", label) for path in paths]


def test_a_name_tells_the_folders_below_the_one_that_all_are_in() -> None:
    assert placed(*of("deer", "photos/north/1.jpg", "photos/south/1.jpg", "photos/2.jpg")) == {
        "photos/north/1.jpg": "deer/north__1.jpg",
        "photos/south/1.jpg": "deer/south__1.jpg",
        "photos/2.jpg": "deer/2.jpg",
    }


def test_images_without_a_label_are_in_folders_that_no_label_has() -> None:
    found = placed(
        Sorted("a.jpg", "unknown"), Sorted("b.jpg", "rejected"), Sorted("c.jpg", "failed"),
        *of("unknown", "d.jpg"), *of("rejected", "e.jpg"), *of("_rejected", "f.jpg"), *of("_FAILED", "g.jpg"),
    )  # fmt: skip
    folders = {path: place.rpartition("/")[0] for path, place in found.items()}
    assert folders["a.jpg"] == "_unknown"
    assert folders["b.jpg"] == "_rejected"
    assert folders["c.jpg"] == "_failed"
    assert folders["d.jpg"] == "unknown"
    assert folders["e.jpg"] == "rejected"
    assert folders["f.jpg"].startswith("_rejected~")
    assert folders["g.jpg"].startswith("_FAILED~")


HOSTILE = [
    "1.jpg", "a/1.jpg", "a__1.jpg", "a/b/1.jpg", "a__b/1.jpg", "a/b__1.jpg", "A/1.JPG", "x.jpg", "X.jpg", "x .jpg",
    "e\u0301.jpg", "é.jpg", "con.jpg", "_con.jpg", "q?.jpg", "q*.jpg", "q_.jpg", "y" * 250 + "1.jpg",
    "y" * 250 + "2.jpg", "..jpg", "__jpg", "n\0.jpg", "n_.jpg", "straße", "strasse",
    "https:/h/i.jpg?a=1", "https:/h/i.jpg?a=2",
]  # fmt: skip


def test_no_two_images_have_one_place_on_any_file_system() -> None:
    """Also where an image has the very name that another would get."""
    found = placed(*of("dog", *HOSTILE))
    names = [place.removeprefix("dog/") for place in found.values()]
    more = [*HOSTILE, *names, *(name.upper() for name in names)]
    found = placed(*of("dog", *dict.fromkeys(more)))
    assert len({same_name(place) for place in found.values()}) == len(set(more))
    assert all(len(place.split("/")) == 2 for place in found.values())


def test_names_do_not_depend_on_the_order_or_the_labels() -> None:
    first = placed(*of("dog", *HOSTILE))
    again = placed(*(one for path in reversed(HOSTILE) for one in of(f"label {len(path)}", path)))
    assert {path: place.partition("/")[2] for path, place in first.items()} == {
        path: place.partition("/")[2] for path, place in again.items()
    }


def test_labels_that_are_one_folder_to_some_file_system_have_two() -> None:
    labels = ["a/b", "a:b", "Dog", "dog", unicodedata.normalize("NFD", "Rüde"), "Rüde", "", "_", ".", "..", "x" * 300]
    found = placed(*(one for number, label in enumerate(labels) for one in of(label, f"{number}.jpg")))
    folders = [place.partition("/")[0] for place in found.values()]
    assert len(set(map(same_name, folders))) == len(labels)
    assert not any(one.startswith(".") or len(one.encode()) > 200 for one in folders)


def test_links_to_the_web_have_the_names_of_their_files_whatever_their_signature() -> None:
    signed = "?X-Amz-Signature={0}&X-Amz-Date={0}"
    paths = [f"https://h/{name}.jpg{signed.format(day)}" for name, day in itertools.product("ab", "1")]
    assert sorted(placed(*of("dog", *paths)).values()) == ["dog/a.jpg", "dog/b.jpg"]
    # Told apart by a query that is no signature; the mark is the same each day.
    same = [placed(*of("dog", *(f"https://h/i?n={n}&{signed.format(day)[1:]}" for n in "12"))) for day in "12"]
    assert set(same[0].values()) == set(same[1].values())
    assert len(set(same[0].values())) == 2
