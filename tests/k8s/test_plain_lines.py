"""Text that comes from elsewhere, as it is printed."""

import pytest

from k8s import plain_lines
from k8s.deploy.cluster_errors import DeployError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]a[/] :dog: ünï 🐕", "[red]a[/] :dog: ünï 🐕"),
        ("\x1b[1m1/10\x1b[0m ok", "1/10 ok"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("a\x1bcb\x07\x9b2J\x7f", "a\\x1bcb\\x07\\x9b2J\\x7f"),
        ("a\r\nb\tc", "a  b c"),
        ("abc\u202edcb\u2028x", "abc\\u202edcb\\u2028x"),
    ],
)
def test_text_of_others_commands_nothing(text: str, shown: str) -> None:
    assert plain_lines.plain(text) == shown
    assert str(DeployError(text)) == shown
