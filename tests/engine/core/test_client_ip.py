"""What the host called itself that handed a message to the provider, as mail servers write it down."""

import pytest

from engine.core.client_ip import client_ip, helo


@pytest.mark.parametrize(
    ("hop", "name"),
    [
        (
            b" from mx.out.example (host.isp.example [192.0.2.7])\r\n\tby in.provider.example; x",
            "mx.out.example",
        ),
        (
            b" from host.isp.example ([192.0.2.7] helo=mx.out.example) by in.provider.example; x",
            "mx.out.example",
        ),
        (b" from [192.0.2.7] (helo=mx.out.example) by in.provider.example; x", "mx.out.example"),
        (b" from unknown (HELO mx.out.example) (192.0.2.7) by in.provider.example; x", "mx.out.example"),
        (b" from unknown (EHLO [192.0.2.9]) (192.0.2.7) by in.provider.example; x", "[192.0.2.9]"),
        (b" from mx.out.example (192.0.2.7) by in.provider.example with SMTP; x", "mx.out.example"),
        (b" from mx.out.example. ([192.0.2.7]) by in.provider.example; x", "mx.out.example."),
        (b" from [192.0.2.7] by in.provider.example; x", "[192.0.2.7]"),
        (b" from unknown ([192.0.2.7]) by in.provider.example; x", ""),
        (b" from a\x1b[2J ([192.0.2.7]) by in.provider.example; x", ""),
    ],
)
def test_helo(hop: bytes, name: str) -> None:
    inside = b" from in.provider.example (in.provider.example [10.0.0.1]) by pop.provider.example; x"
    forged = b" from other.example (other.example [192.0.2.8]) by x"
    hops = [inside, hop, forged]
    assert client_ip(hops) == "192.0.2.7"
    assert helo(hops, "192.0.2.7") == name
    assert helo(hops, "192.0.2.99") == ""
    assert helo([], "192.0.2.7") == ""
