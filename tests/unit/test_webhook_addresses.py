"""Where a webhook may go: the URL's form, and every way of writing an address that is not public."""

from __future__ import annotations

import pytest

from taskservice.errors import InvalidSubmission
from taskservice.handlers.webhook_delivery.addresses import (
    MAX_URL_LENGTH,
    ForbiddenTarget,
    is_public,
    parse_target,
    refuse_unless_public,
    resolve_host,
)
from taskservice.handlers.webhook_delivery.parameters import CallbackRequest, to_callback

NOT_PUBLIC = {
    "loopback": "127.0.0.1",
    "loopback, far end": "127.255.255.254",
    "private 10": "10.0.0.1",
    "private 172": "172.16.0.1",
    "private 192": "192.168.1.1",
    "metadata service": "169.254.169.254",
    "carrier-grade NAT": "100.64.0.1",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "documentation": "203.0.113.7",
    "benchmarks": "198.18.0.1",
    "protocol assignments": "192.0.0.8",
    "6to4 relay": "192.88.99.1",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "IPv6 link-local": "fe80::1",
    "IPv6 link-local with zone": "fe80::1%eth0",
    "IPv6 unique local": "fd00::1",
    "IPv6 site-local": "fec0::1",
    "IPv6 multicast": "ff02::1",
    "IPv6 documentation": "2001:db8::1",
    "IPv6 documentation, new": "3fff::1",
    "IPv6 discard": "100::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped metadata service": "::ffff:169.254.169.254",
    "compatible loopback": "::127.0.0.1",
    "6to4 of loopback": "2002:7f00:1::",
    "6to4 of private": "2002:a00:1::1",
    "NAT64 of loopback": "64:ff9b::7f00:1",
    "NAT64 of private": "64:ff9b::10.0.0.1",
    "NAT64 of local use": "64:ff9b:1::8.8.8.8",
}
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]


@pytest.mark.parametrize("name", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(name: str) -> None:
    assert not is_public(NOT_PUBLIC[name])


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_accepted_in_any_form(address: str) -> None:
    assert is_public(address)


def test_one_address_that_is_not_public_refuses_the_host() -> None:
    with pytest.raises(ForbiddenTarget, match="public internet"):
        refuse_unless_public(["8.8.8.8", "10.0.0.1"])


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://localhost/hook",
        "https://api.localhost/hook",
        "https://LOCALHOST./hook",
        "https://127.0.0.1/hook",
        "https://127.1/hook",
        "https://2130706433/hook",
        "https://0x7f000001/hook",
        "https://0177.0.0.1/hook",
        "https://[::1]/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://[64:ff9b::7f00:1]:8443/hook",
        "https://169.254.169.254/latest/meta-data",
    ],
)
def test_a_literal_target_that_is_not_public_https_is_refused_at_once(url: str) -> None:
    with pytest.raises(ForbiddenTarget):
        parse_target(url, allow_private=False)

    assert parse_target(url, allow_private=True).path.startswith("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "ftp://example.com/hook",
        "https:///hook",
        "https://user:secret@example.com/hook",
        "https://@example.com/hook",
        "https://example.com:0/hook",
        "https://example.com:70000/hook",
        "https://[::1/hook",
        "https://exämple.com/hook",
        "https://example.com/a b",
        "https://example.com/\r\nX-Injected: 1",
        "https://example.com/" + "x" * MAX_URL_LENGTH,
    ],
)
def test_what_is_not_a_usable_url_is_refused_even_in_development(url: str) -> None:
    with pytest.raises(ForbiddenTarget):
        parse_target(url, allow_private=True)


@pytest.mark.parametrize(
    ("url", "host_header", "path"),
    [
        ("https://Example.com", "example.com", "/"),
        ("https://example.com:443/a?b=c#d", "example.com", "/a?b=c"),
        ("https://example.com:8443/a%20b", "example.com:8443", "/a%20b"),
        ("https://[2606:4700:4700::1111]:444/?x", "[2606:4700:4700::1111]:444", "/?x"),
        ("https://example.com./hook", "example.com", "/hook"),
    ],
)
def test_host_and_path_are_sent_as_the_url_has_them(url: str, host_header: str, path: str) -> None:
    target = parse_target(url, allow_private=False)

    assert (target.host_header, target.path) == (host_header, path)


def test_a_callback_names_its_url_when_that_is_refused() -> None:
    request = CallbackRequest(url="http://10.0.0.1/", events=["failed"])

    with pytest.raises(InvalidSubmission) as caught:
        to_callback(request, allow_private=False)

    assert [error.pointer for error in caught.value.errors] == ["/callback/url"]
    assert to_callback(request, allow_private=True).url == "http://10.0.0.1/"


def test_a_callback_keeps_each_event_once() -> None:
    request = CallbackRequest(url="https://example.com/", events=["failed", "succeeded", "failed"])

    assert to_callback(request, allow_private=False).events == ("failed", "succeeded")


@pytest.mark.parametrize("events", [[], ["progress"], ["task.failed"], "failed", None])
def test_a_callback_needs_events_that_exist(events: object) -> None:
    with pytest.raises(ValueError, match="events"):
        CallbackRequest.model_validate({"url": "https://example.com/", "events": events})


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "a..b"])
def test_a_name_that_is_none_cannot_be_resolved(host: str) -> None:
    with pytest.raises(OSError, match="not a host name"):
        resolve_host(host, 443)
