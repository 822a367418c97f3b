"""Why there is nothing at a path that a user gave, and how it is spelled right."""

import glob
import os
import re
import unicodedata
from typing import Literal

from beam_jobs.glob_patterns import has_magic
from serving.storage.base import join

_FORMS: tuple[Literal["NFC"], Literal["NFD"]] = ("NFC", "NFD")


def why_not_there(path: str) -> str:
    """Why there is no file or folder of a name on this machine's disks."""
    try:
        os.stat(path)
        return "neither a file nor a folder"
    except PermissionError:
        return "a folder above it may not be read"
    except (OSError, ValueError):
        hint = spelling_hint(path)
        return "no such file or folder" + (f"; {hint}" if hint else "")


def spelling_hint(path: str, list_folder: str | None = None) -> str:
    """How a path of this machine's disks that isn't there may be meant; "" if nothing tells.

    Args:
      path: as the user wrote it.
      list_folder: the folder of the list that names it, if one does.
    """
    if re.match(r"(['\"]).*\1\Z", path, re.DOTALL):
        return "remove the quotes around it"
    if bucket := re.match("(gs|s3|az|https?):/(?!/)", path):
        return f"did you mean {bucket[1]}://{path[bucket.end() :]}?"
    if path.startswith("data:"):
        return "an image inside of a URL is not read: save it as a file"
    if path.startswith("www."):
        return f"did you mean https://{path}?"
    for whole in (os.path.expanduser(path), os.path.expandvars(path)):
        if whole != path and os.path.exists(whole):
            return f"~ and variables are a shell's, which replaces them where a word begins: {whole}"
    if re.match(r"[A-Za-z]:[\\/]", path):
        return "that is a path of Windows: give the path that the file has on this machine"
    if "\\" in path and os.path.exists(path.replace("\\", "/")):
        return f"folders are separated by /: {path.replace(chr(92), '/')}"
    for form in _FORMS:
        if os.path.exists(unicodedata.normalize(form, path)):
            return f"there is one whose accents have another Unicode form ({form}): write its name as the disk has it"
    if list_folder is not None:
        if has_magic(path) and next(glob.iglob(path, recursive=True), None) is not None:
            return "a list names images one by one: give the glob as `inputs` of its own"
        if os.path.exists(join(list_folder, path)):
            return f"relative paths are taken from the working directory: give `images` {list_folder}"
    return ""
