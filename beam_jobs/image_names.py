"""Which paths name the same image: other spellings on a disk, and links that differ in their signature alone."""

import urllib.parse

from serving.storage.base import is_web, scheme


def image_name(path: str, base: str) -> str:
    """The one name of an image, whichever way its path is spelled: on a disk, from the base if it is below it.

    Args:
      path: on a disk, in a bucket or on the web.
      base: the folder that a relative path is below.
    """
    if is_web(path):
        return _without_signature(path)
    if scheme(path):
        return path
    plain = path
    if "//" in path or "./" in path:  # few are spelled so, and there may be millions
        steps = [step for step in path.split("/") if step not in ("", ".")]
        plain = "/" * path.startswith("/") + "/".join(steps)  # `..` stays: behind a link it is another place
    return plain.removeprefix(base.rstrip("/") + "/")


def _without_signature(url: str) -> str:
    """A URL without the parameters that a store signs it with."""
    if "sig" not in url.lower():  # most links, of which there may be millions
        return url
    start, mark, rest = url.partition("?")
    query, hash_mark, fragment = rest.partition("#")
    names = [urllib.parse.unquote(one.partition("=")[0]).lower() for one in query.split("&")]
    signing = {
        name
        for sign, needed, belonging in _SIGNATURES
        if sign in names and needed & set(names)
        for name in (sign, *needed, *belonging)
    }
    kept = [one for name, one in zip(names, query.split("&"), strict=True) if name not in signing]
    return (
        url if not mark or len(kept) == len(names) else start + "?" * bool(kept) + "&".join(kept) + hash_mark + fragment
    )


_SIGNATURES: list[tuple[str, set[str], list[str]]] = [
    *(
        (f"x-{store}-signature", {f"x-{store}-date"}, [
            f"x-{store}-{name}" for name in ("algorithm", "credential", "expires", "signedheaders", "security-token")
        ])
        for store in ("amz", "goog")
    ),
    # The older form of S3's and Google's, CloudFront's and Alibaba's.
    ("signature", {"expires", "policy"}, [
        "awsaccesskeyid", "x-amz-security-token", "googleaccessid", "ossaccesskeyid", "security-token", "key-pair-id",
    ]),
    # Azure's.
    ("sig", {"sv"}, [
        "ss", "srt", "sr", "sp", "st", "se", "spr", "sip", "si", "skoid", "sktid", "skt", "ske", "sks", "skv", "saoid",
        "suoid", "scid", "sdd", "ses",
    ]),
]  # fmt: skip
"""The parameter that holds a signature, in small letters, one of those that it never comes without, and the others that
belong to it. Another site's `sig` alone may mean anything."""
