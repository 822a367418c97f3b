"""Names and patterns mean the same on a disk, in s3:// and in gs://: one table, asked of real stores."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.glob_patterns import Below, glob_to_regex, is_hidden, split_pattern
from beam_jobs.listing import list_images
from serving.errors import UsageError
from serving.storage.stores import open_store

TREE = (
    "a.jpg", "b.png", ".h.jpg", "p/x.jpg", "p/y/z.jpg", "p/y/.q.jpg", "p/.hid/w.jpg", "p/.hid/v/u.jpg",
    "br[1].jpg", "br1.jpg", "a*b.jpg", "axb.jpg", "q?.jpg", "qq.jpg", "d[1]/in.jpg", "d1/in.jpg",
    "sp ace.jpg", "ha#sh.jpg", "per%20cent.jpg", "a+b&c=d.jpg", "犬.jpg", "back\\slash.jpg",
)  # fmt: skip

TABLE = {
    "": ([name for name in TREE if "/." not in f"/{name}"], {"hidden_files": 2, "hidden_folders": 1}),
    "p": (["p/x.jpg", "p/y/z.jpg"], {"hidden_files": 1, "hidden_folders": 1}),
    "p/": (["p/x.jpg", "p/y/z.jpg"], {"hidden_files": 1, "hidden_folders": 1}),
    "p/**": (["p/x.jpg", "p/y/z.jpg"], {"hidden_files": 1, "hidden_folders": 1}),
    "p/*": (["p/x.jpg"], {}),
    "**/z.jpg": (["p/y/z.jpg"], {"hidden_folders": 1}),
    "p/**/*.jpg": (["p/x.jpg", "p/y/z.jpg"], {"hidden_files": 1, "hidden_folders": 1}),
    "p/**.jpg": (["p/x.jpg", "p/y/z.jpg"], {"hidden_files": 1, "hidden_folders": 1}),
    "*/x.jpg": (["p/x.jpg"], {}),
    "*/*/*.jpg": (["p/y/z.jpg"], {"hidden_files": 1, "hidden_folders": 1}),
    "p/.hid/*.jpg": (["p/.hid/w.jpg"], {}),
    "p/.hid": (["p/.hid/v/u.jpg", "p/.hid/w.jpg"], {}),
    "p/.*/*.jpg": (["p/.hid/w.jpg"], {}),
    "**/.hid/*.jpg": (["p/.hid/w.jpg"], {}),
    ".*.jpg": ([".h.jpg"], {}),
    "?.jpg": (["a.jpg", "犬.jpg"], {}),
    "[!a].???": (["b.png", "犬.jpg"], {}),
    "[ab].*": (["a.jpg", "b.png"], {}),
    "br[1].jpg": (["br[1].jpg"], {}),
    "br[0-9].jpg": (["br1.jpg"], {}),
    "br[[]1].jpg": (["br[1].jpg"], {}),
    "a*b.jpg": (["a*b.jpg"], {}),
    "a?b.jpg": (["a*b.jpg", "axb.jpg"], {}),
    "q?.jpg": (["q?.jpg"], {}),
    "d[1]": (["d[1]/in.jpg"], {}),
    "d[1]/*": (["d1/in.jpg"], {}),
    "d[!x]*/*.jpg": (["d1/in.jpg", "d[1]/in.jpg"], {}),
    "sp ace.jpg": (["sp ace.jpg"], {}),
    "ha#*.jpg": (["ha#sh.jpg"], {}),
    "per%20*": (["per%20cent.jpg"], {}),
    "a+b&c=d.jpg": (["a+b&c=d.jpg"], {}),
    "back\\*": (["back\\slash.jpg"], {}),
}


@pytest.fixture(params=["disk", "s3", "gs"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of each kind of store with the files of TREE."""
    if request.param == "disk":
        folder = str(tmp_path_factory.mktemp("tree"))
    else:
        folder = request.getfixturevalue(f"{request.param}_folder")
    for name in TREE:
        open_store(folder).create(f"{folder}/{name}", b"x")
    return folder


def test_names_and_patterns_mean_the_same_everywhere(tree: str) -> None:
    found = {}
    for pattern in TABLE:
        listing = list_images([f"{tree}/{pattern}"])
        found[pattern] = sorted(one.path.removeprefix(tree + "/") for one in listing), dict(listing.left_out)
    assert found == {pattern: (sorted(names), left_out) for pattern, (names, left_out) in TABLE.items()}


@pytest.mark.parametrize("pattern", ["z*.jpg", "p/z*/*.jpg", "nowhere/*.jpg", "a.jpg/*"])
def test_what_matches_nothing_is_named(tree: str, pattern: str) -> None:
    with pytest.raises(UsageError) as error:
        list(list_images([f"{tree}/a.jpg", f"{tree}/{pattern}"]))
    assert f"`inputs` {tree}/{pattern} matches no image" in str(error.value)


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_keys_that_no_disk_could_hold(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    # The emulator of GCS can't hold `..`.
    odd = ["p//x.jpg", "p/./k.jpg", *(["p/../m.jpg"] if kind == "s3" else [])]
    keys = [*odd, "p/a/", "p/.h/a.jpg", "p/.h/b/c.jpg"]
    for key in keys:
        open_store(folder).create(f"{folder}/{key}", b"")

    def listed(pattern: str) -> tuple[list[str], dict[str, int]]:
        listing = list_images([f"{folder}/{pattern}"])
        return sorted(one.path.removeprefix(folder + "/") for one in listing), dict(listing.left_out)

    assert listed("p") == (sorted(odd), {"hidden_folders": 1})
    assert listed("p/**/*.jpg") == listed("p")
    assert listed("p/**/x.jpg") == (["p//x.jpg"], {"hidden_folders": 1})
    for key in odd:
        assert listed(key) == ([key], {})
        assert open_store(folder).read(f"{folder}/{key}") == b""


@pytest.mark.parametrize("kind", ["s3", "gs"])
@pytest.mark.parametrize("name", ["nobody-s", "nobody-s/", "nobody-s/a.jpg", "nobody-s/**/*.jpg", "nobody-s/l.csv"])
def test_a_bucket_that_does_not_exist_is_said(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(f"{kind}_folder")
    with pytest.raises(UsageError, match="there is no bucket 'nobody-s'"):
        list(list_images([f"{kind}://{name}"]))


def test_a_pattern_is_looked_for_below_its_last_plain_folder() -> None:
    assert split_pattern("a/b/*.jpg") == ("a/b/", "*.jpg")
    assert split_pattern("a/b*/c.jpg") == ("a/", "b*/c.jpg")
    assert split_pattern("*.jpg") == ("", "*.jpg")
    assert split_pattern("/[x]") == ("/", "[x]")


pieces = st.lists(st.sampled_from(["a", "b", "[", "]", ".", "*", "?", "/", "**/", "\\", "^", "-", "!"]), max_size=8)


@given(pieces, pieces)
def test_the_way_down_leads_to_every_file_that_is_meant(pattern: list[str], path: list[str]) -> None:
    """A file that the whole pattern matches is in folders that its walk enters; hidden ones only by a written dot."""
    below, name = Below("".join(pattern)), "".join(path)
    *folders, last = name.split("/")
    if below.takes(name) == "yes":
        assert all(below.enters(level, folder) == "yes" for level, folder in enumerate(folders))
        if not any(part.startswith(".") for part in "".join(pattern).split("/")):
            assert not any(map(is_hidden, [*folders, last]))


@given(pieces)
def test_a_pattern_without_wildcards_matches_itself_only(pattern: list[str]) -> None:
    text = "".join(pattern)
    expression = re.compile(glob_to_regex(text), re.DOTALL)  # any pattern compiles
    if not set(text) & set("*?["):
        assert expression.fullmatch(text)
        assert not expression.fullmatch(text + "x")
