"""The way to the broker: what is wrong with it is named, and no password is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgaps.bus.connection import connect, shown
from sgaps.errors import SettingsError
from sgaps.settings import Settings


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hush@broker:6379/0", "redis://broker:6379/0"),
        ("rediss://user:hush@broker/0?password=hush", "rediss://broker/0"),
        ("redis://[::1]:6379/0", "redis://::1:6379/0"),
        ("unix:///run/broker.sock?password=hush", "unix:///run/broker.sock"),
        ("redis:///0", "redis:///0"),
        ("redis://:hu/sh@broker:6379/0", "it cannot be read"),
        ("redis://:12/hush@broker:6379/0", "it cannot be read"),
        ("redis://:12?hush@broker:6379/0", "it cannot be read"),
        ("redis:hush@broker/0", "it cannot be read"),
        ("hush", "it has no scheme"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, said: str) -> None:
    assert shown(url) == said


@pytest.mark.parametrize(
    "url",
    ["hush", "http://:hush@broker/0", "redis://:hu/sh@broker:6379/0", "redis://h:1/0?db=hush"],
)
def test_a_url_of_no_broker_is_said_without_its_password(url: str, settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"bus\.url") as caught:
        connect(settings.bus.model_copy(update={"url": url}), socket_timeout_secs=1)
    assert "hu" not in str(caught.value)


@pytest.mark.parametrize(
    "option", ["protocol=3", "socket_timeout=", "db=0&retry_on_timeout=1", "hush"]
)
def test_a_url_changes_nothing_else_of_a_connection(option: str, settings: Settings) -> None:
    url = f"redis://:hush@broker:6379/0?{option}"
    with pytest.raises(SettingsError, match="has options that cannot be set") as caught:
        connect(settings.bus.model_copy(update={"url": url}), socket_timeout_secs=1)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["unix:///run/broker.sock?db=2", "redis://broker/2?password=x"])
def test_a_url_may_tell_who_and_where(url: str, settings: Settings) -> None:
    client = connect(settings.bus.model_copy(update={"url": url}), socket_timeout_secs=1)
    assert client.connection_pool.connection_kwargs["db"] == 2


def test_settings_go_before_what_a_url_says(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("new")
    url = "redis://old:old@broker/0?username=older"
    changes = {"url": url, "username": "recorder", "password_file": path}
    client = connect(settings.bus.model_copy(update=changes), socket_timeout_secs=1)
    given = client.connection_pool.connection_kwargs
    assert (given["username"], given["password"]) == ("recorder", "new")


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), ("", "is empty"), (" \n", "is empty")]
)
def test_a_password_file_without_a_password(
    content: str | None, why: str, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "recorder.password"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=rf"password_file {path} .*{why}"):
        connect(settings.bus.model_copy(update={"password_file": path}), socket_timeout_secs=1)


def test_a_missing_certificate_is_named(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    changes = {"url": "rediss://h:1/0", "tls_ca_file": path}
    with pytest.raises(SettingsError, match=str(path)):
        connect(settings.bus.model_copy(update=changes), socket_timeout_secs=1)
