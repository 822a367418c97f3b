"""Which paths name the same image."""

import pytest

from beam_jobs.image_names import image_name

S3 = "https://b.s3.amazonaws.com/a.jpg"
GCS = "https://storage.googleapis.com/b/a.jpg"
AZURE = "https://account.blob.core.windows.net/c/a.jpg"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            f"{S3}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=K%2F20261130&X-Amz-Date=20261130T120000Z"
            "&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=t&X-Amz-Signature=abc",
            f"{S3}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=L%2F20261201&X-Amz-Date=20261201T120000Z"
            "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=def",
        ),
        (f"{S3}?AWSAccessKeyId=K&Signature=abc%3D&Expires=1", f"{S3}?Expires=2&AWSAccessKeyId=L&Signature=d"),
        (f"{GCS}?X-Goog-Algorithm=a&X-Goog-Credential=c&X-Goog-Date=1&X-Goog-Signature=1", GCS),
        (f"{GCS}?GoogleAccessId=me&Expires=1&Signature=x", f"{GCS}?GoogleAccessId=me&Expires=2&Signature=y"),
        (f"{AZURE}?sv=2024-11-04&st=1&se=2&sr=b&sp=r&sig=abc%2F", f"{AZURE}?sp=r&sr=b&se=3&sv=2025-01-05&sig=def"),
        ("https://d.cloudfront.net/a.jpg?w=10&Expires=1&Signature=a&Key-Pair-Id=K",
         "https://d.cloudfront.net/a.jpg?w=10&Policy=p&Signature=b&Key-Pair-Id=K"),
        ("a.jpg", "./a.jpg"),
        ("a.jpg", "/base/a.jpg"),
        ("in/a.jpg", "in//./a.jpg"),
        ("/base/in/a.jpg", "./in/a.jpg"),
        ("/other/a.jpg", "/other//a.jpg"),
    ],
)  # fmt: skip
def test_these_are_one_image(one: str, other: str) -> None:
    assert image_name(one, "/base") == image_name(other, "/base")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"{S3}?versionId=1&Signature=a&Expires=1", f"{S3}?versionId=2&Signature=a&Expires=1"),
        ("https://host/render?sr=1", "https://host/render?sr=2"),  # without a signature it may mean anything
        ("https://host/a?sig=1", "https://host/a?sig=2"),  # of a site of its own
        ("https://host/a?expires=1", "https://host/a?expires=2"),
        ("https://host/a.jpg", "http://host/a.jpg"),
        ("s3://b/a//b.jpg", "s3://b/a/b.jpg"),
        ("s3://b/./a.jpg", "s3://b/a.jpg"),
        ("in/../a.jpg", "a.jpg"),  # where `in` is a link, it is another
        ("/base/a.jpg", "/other/a.jpg"),
        ("base/a.jpg", "/base/a.jpg"),
        ("...jpg", "jpg"),
    ],
)
def test_these_are_two(one: str, other: str) -> None:
    assert image_name(one, "/base") != image_name(other, "/base")


@pytest.mark.parametrize("plain", ["a.jpg", "/x/a.jpg", "s3://b/a.jpg", "https://h/a.jpg?w=1#x", "..", "a./b.jpg"])
def test_a_plain_path_is_its_own_name(plain: str) -> None:
    assert image_name(plain, "/base") == plain
