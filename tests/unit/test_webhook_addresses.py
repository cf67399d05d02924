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
    "metadata service, containers": "169.254.170.2",
    "metadata service, Alibaba": "100.100.100.200",
    "metadata service, Oracle": "192.0.0.192",
    "metadata service, Azure": "168.63.129.16",
    "link-local, last": "169.254.255.255",
    "private 172, last": "172.31.255.255",
    "carrier-grade NAT": "100.64.0.1",
    "carrier-grade NAT, last": "100.127.255.255",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "this network, last": "0.255.255.255",
    "multicast, last": "239.255.255.255",
    "reserved, last": "255.255.255.254",
    "documentation": "203.0.113.7",
    "documentation 1": "192.0.2.1",
    "documentation 2": "198.51.100.1",
    "benchmarks": "198.18.0.1",
    "benchmarks, last": "198.19.255.255",
    "protocol assignments": "192.0.0.8",
    "6to4 relay": "192.88.99.1",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "IPv6 link-local": "fe80::1",
    "IPv6 link-local with zone": "fe80::1%eth0",
    "IPv6 link-local, last": "febf::1",
    "IPv6 unique local": "fd00::1",
    "IPv6 unique local, first half": "fc00::1",
    "IPv6 metadata service, AWS": "fd00:ec2::254",
    "IPv6 metadata service, Google": "fd20:ce::254",
    "IPv6 segment routing": "5f00::1",
    "IPv6 benchmarks": "2001:2::1",
    "IPv6 ORCHID": "2001:20::1",
    "IPv6 not assigned": "4000::1",
    "IPv6 site-local": "fec0::1",
    "IPv6 multicast": "ff02::1",
    "IPv6 documentation": "2001:db8::1",
    "IPv6 documentation, new": "3fff::1",
    "IPv6 discard": "100::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "Teredo of loopback": "2001:0:808:808:0:0:80ff:fffe",
    "mapped private": "::ffff:192.168.0.1",
    "mapped Azure": "::ffff:168.63.129.16",
    "mapped, in hexadecimal": "::ffff:7f00:1",
    "mapped carrier-grade NAT": "::ffff:100.64.0.1",
    "translated loopback": "::ffff:0:127.0.0.1",
    "compatible public": "::8.8.8.8",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped metadata service": "::ffff:169.254.169.254",
    "compatible loopback": "::127.0.0.1",
    "6to4 of loopback": "2002:7f00:1::",
    "6to4 of private": "2002:a00:1::1",
    "6to4 of public": "2002:808:808::1",
    "NAT64 of metadata service": "64:ff9b::169.254.169.254",
    "NAT64 of Azure": "64:ff9b::168.63.129.16",
    "NAT64 of loopback": "64:ff9b::7f00:1",
    "NAT64 of private": "64:ff9b::10.0.0.1",
    "NAT64 of local use": "64:ff9b:1::8.8.8.8",
}
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "168.63.129.17",
    "223.255.255.255", "2606:4700:4700::1111", "2a00::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("name", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(name: str) -> None:
    assert not is_public(NOT_PUBLIC[name])


@pytest.mark.parametrize("name", NOT_PUBLIC)
def test_one_written_into_the_url_is_refused_at_submission(name: str) -> None:
    address = NOT_PUBLIC[name]
    host = f"[{address}]" if ":" in address else address

    with pytest.raises(ForbiddenTarget):
        parse_target(f"https://{host}:8443/hook", allow_private=False)


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
        "https://example.com\u3002evil.example/hook",
        "https://\uff11\uff12\uff17.0.0.1/hook",
        "https://good.example\\@evil.example/hook",
        "https://good.example%40evil.example/hook",
        "https://127%2e0.0.1/hook",
        "https://good.example\\.evil.example/hook",
        "https://exa$mple.com/hook",
        "https://a..b/hook",
        "https://-a.example/hook",
        "https://example.com../hook",
        "https://" + "a." * 127 + "example/hook",
        "https://example.com:8443x/hook",
        "https://example.com:-1/hook",
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
        ("https://xn--exmple-cua.com:65535/hook", "xn--exmple-cua.com:65535", "/hook"),
        ("https://task_hooks.example/hook", "task_hooks.example", "/hook"),
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
