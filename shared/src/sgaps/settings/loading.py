"""From `conf/`, environment and command line to settings, or an error that names the key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sgaps.errors import SettingsError
from sgaps.settings.sections import Settings

ENV_PREFIX = "SGAPS__"
CONF_DIR_ENV = "SGAPS_CONF_DIR"
OPEN_GROUP = ["atlas", "layouts"]
"""Its keys are the user's own, and their letters matter."""
SECRETS = frozenset({"auth_token", "url", "endpoint"})
"""Keys whose values no message shows; a URL may hold a password."""


def default_conf_dir() -> Path:
    """The folder `conf/` of this checkout, or what SGAPS_CONF_DIR names."""
    named = os.environ.get(CONF_DIR_ENV)
    return Path(named) if named else Path(__file__).parents[4] / "conf"


def overrides_from_environment(environment: Mapping[str, str]) -> list[str]:
    """Turn `SGAPS__GROUP__KEY=value` variables into Hydra overrides, in stable order."""
    return [
        f"{_key(name.removeprefix(ENV_PREFIX))}={value}"
        for name, value in sorted(environment.items())
        if name.startswith(ENV_PREFIX)
    ]


def _key(name: str) -> str:
    """In small letters; a key of the open group as it is written, unless that is in capitals.

    There with Hydra's ++ before it, for it may be new: a name in Kubernetes can have no + in it.
    """
    written = name.split("__")
    parts = [part.lower() for part in written]
    if parts[:2] != OPEN_GROUP:
        return ".".join(parts)
    parts[2:3] = [part.lower() if part.isupper() else part for part in written[2:3]]
    return "++" + ".".join(parts)


def override(key: str, text: object) -> str:
    """The override that sets a key to this very text, whatever Hydra would read into it.

    A path has blanks, commas and brackets in it where people like them; a URL the = of ?db=1.
    """
    # In quotes, too, OmegaConf looks for ${…}: a backslash before it, and two for each that is.
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(text))
    return f"{key}={QuotedString(literal, Quote.single).with_quotes()}"


def load_settings(
    overrides: Sequence[str] = (),
    *,
    conf_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Compose `conf/`, apply the environment, then the overrides, and check the result.

    Raises SettingsError naming the key that is wrong.
    """
    folder = (conf_dir or default_conf_dir()).resolve()
    try:
        is_there = (folder / "config.yaml").is_file()
    except OSError as error:
        cure = f"chmod -R a+rX {folder}"
        raise SettingsError(f"{error.filename}: {error.strerror}; {cure}") from error
    if not is_there:
        raise SettingsError(f"no config.yaml in {folder}; set {CONF_DIR_ENV} to the conf folder")
    env = os.environ if environment is None else environment
    GlobalHydra.instance().clear()
    OmegaConf.register_new_resolver("repository", lambda: str(folder.parent), replace=True)
    # As oc.env, but for an empty variable, which is none.
    OmegaConf.register_new_resolver(
        "environment", lambda name, default: env.get(name) or default, replace=True
    )
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            config = compose("config", [*overrides_from_environment(env), *overrides])
        return Settings.model_validate(OmegaConf.to_container(config, resolve=True))
    except ValidationError as error:
        raise SettingsError(_name_the_keys(error)) from error
    except FileNotFoundError as error:  # Hydra asks where it is
        raise SettingsError("the folder that you are in is gone: cd to another one") from error
    except OverrideParseException as error:
        raise SettingsError(f"configuration: {_unread(error.override)}") from None
    except (HydraException, OmegaConfBaseException) as error:
        reason = _reason(error)
        raise SettingsError(f"configuration: {reason} The keys are in {folder}.") from error


def _unread(override: str) -> str:
    key, equals, _ = override.partition("=")
    if not equals:
        return "settings are overridden by key=value"
    return f"the value of {key} cannot be read; put it in quotes: \"{key}='…'\""


def _reason(error: HydraException | OmegaConfBaseException) -> str:
    key = str(getattr(error, "full_key", None))
    if _is_secret(key.split(".")):
        return f"{key} cannot be resolved; $ means something in a value."
    first = str(error).strip().splitlines()[0].strip()
    if isinstance(error, MissingConfigException) and error.options:
        return f"{first}; there is {', '.join(error.options)}."
    return first


def _name_the_keys(error: ValidationError) -> str:
    lines = [
        f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}{_given(e)}"
        for e in error.errors()
    ]
    return "configuration: " + "; ".join(lines)


def _given(error: ErrorDetails) -> str:
    """The value of a key that exists and is no secret: a mistyped key may hold one as well."""
    shows = error["type"] != "extra_forbidden" and not isinstance(error["input"], Mapping)
    return f", got {error['input']!r}" if shows and not _is_secret(error["loc"]) else ""


def _is_secret(key: Sequence[str | int]) -> bool:
    return not SECRETS.isdisjoint(key)
