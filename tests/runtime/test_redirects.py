"""Redirects, from public and from private addresses."""

from __future__ import annotations

import pytest
import requests

from monai_ext.runtime.redirects import RedirectError, Session, redirected

PRIVATE = ["127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::1]", "[fd00::1]"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_public_server_does_not_redirect_into_a_private_network(host):
    sentence = rf"into a private network, .* name this address instead: http://{host}/a\?sig=\*\*\*$".replace(
        "[", r"\["
    )
    with pytest.raises(RedirectError, match=sentence):
        redirected("https://93.184.216.34/1", f"http://{host}/a?sig=hidden")
    assert redirected(f"http://{host}:8080/1", f"http://{host}/2") == f"http://{host}/2"


def test_redirects_between_public_servers_are_followed():
    assert redirected("https://93.184.216.34/1/2", "../3") == "https://93.184.216.34/3"
    assert redirected("https://93.184.216.34/1", "http://8.8.8.8/3") == "http://8.8.8.8/3"


def test_a_session_looks_into_redirects():
    response = requests.Response()
    response.url, response.status_code = "https://93.184.216.34/1", 302
    with Session() as session:
        assert session.get_redirect_target(response) is None
        response.headers["Location"] = "http://127.0.0.1/secret"
        with pytest.raises(RedirectError, match="into a private network"):
            session.get_redirect_target(response)
