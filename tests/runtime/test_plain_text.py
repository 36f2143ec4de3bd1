"""Text that may be shown."""

from __future__ import annotations

import pytest

from monai_ext.runtime.errors import one_line
from monai_ext.runtime.plain_text import without_secrets


@pytest.mark.parametrize(
    "name",
    ["api", "sig", "tk", "pk", "auth", "sign", "access_token", "X-Amz-Signature", "pwd", "Policy", "jwt", "session_id",
     "apiKey", "client_id", "user", "code", "Key-Pair-Id"],
)  # fmt: skip
def test_parameters_that_look_like_keys_are_struck_out(name):
    assert without_secrets(f"https://t.org/1?a=1&{name}=s1&b=2") == f"https://t.org/1?a=1&{name}=***&b=2"
    assert without_secrets(f'"GET /1?{name}=s1 HTTP/1.1"') == f'"GET /1?{name}=*** HTTP/1.1"'
    assert without_secrets(f"https://t.org/1;{name}=s1") == f"https://t.org/1;{name}=***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:s1@t.org/1?tkl=5&style=api", "https://***@t.org/1?tkl=5&style=api"),
        ("https://me:s@1@t.org/1", "https://***@t.org/1"),
        ("ftp://s1@t.org and http://s2@u.org", "ftp://***@t.org and http://***@u.org"),
        ("https://t.org/v4/0123456789abcdef0123/1/0/0.png", "https://t.org/v4/***/1/0/0.png"),
        ("https://t.org/1?x=eyJhbGciOiJIUzI1NiIsInR5cCI6.eyJzdWIiOiIxMjM0NTY3ODkw", "https://t.org/1?x=***.***"),
        ("https://t.org/123e4567-e89b-12d3-a456-426614174000/1", "https://t.org/***/1"),
        ("https://t.org/arcgis/rest/services/USGSImageryOnly/MapServer/tile/{z}/{y}/{x}", None),
        ("https://t.org/global_monthly_2020_01_mosaic/{z}/{x}/{y}.png?v=2&style=dark", None),
        ("weights of SHA-256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", None),
        ("mail me@t.org about https://t.org", None),
        (
            "--header 'Authorization: Bearer s1' --header 'X-Api-Key:s2'",
            "--header 'Authorization: ***' --header 'X-Api-Key:***'",
        ),
        ('["Proxy-Authorization: Basic s1=="]', '["Proxy-Authorization: ***"]'),
        ("key: 5, tokens: 7, no authorization was given", None),
    ],
)
def test_passwords_and_keys_in_addresses_are_struck_out_and_nothing_else(text, shown):
    assert without_secrets(text) == without_secrets(without_secrets(text)) == (text if shown is None else shown)


def test_a_librarys_message_has_nothing_that_a_terminal_obeys():
    assert one_line(ValueError("bad \x1b[31mnews\x07\u202e")) == "bad \\x1b[31mnews\\x07\\u202e"
