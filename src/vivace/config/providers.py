"""The tables `[models.providers.NAME]` of `vivace.toml`: models that somebody else's server runs."""

import ipaddress
import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from vivace.config.table import Count, Table

ProviderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Price = Annotated[float, Field(ge=0)]
BASE_URLS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com/v1"}
# What a header with one of these words in its name holds is a secret, whatever its value looks like.
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ENDPOINTS = ("/chat/completions", "/completions", "/messages")
OURS = frozenset({"messages", "stream", "system"})
"""Fields of a request that Vivace alone writes."""


class TimeoutSettings(Table):
    """How long each part of an answer may take."""

    connect_s: Seconds = 10.0
    """Longest time to open a connection."""
    first_token_s: Seconds = 60.0
    """Longest time from sending the request to the first token."""
    between_tokens_s: Seconds = 30.0
    """Longest silence between two tokens. Signs of life without a token do not count."""
    total_s: Seconds = 600.0
    """Longest time for a whole answer, its retries included."""


class ProviderSettings(Table):
    """A model that is asked over HTTP."""

    engine: Literal["openai", "anthropic"] = "openai"
    """The protocol: `openai` (also vLLM, TGI, llama.cpp, Ollama, Mistral, Azure) or `anthropic`."""
    base_url: str = ""
    """Address before `/chat/completions` or `/messages`. Empty: the provider's own."""
    model: Annotated[str, Field(min_length=1, max_length=300)]
    """The model's name as the server knows it."""
    candidate: bool = False
    """Evaluate and measure it beside the tuned model, and release it if it wins. It is asked the test questions."""
    api_key: str = ""
    """The key as env:NAME, never as a value. Empty: none is sent."""
    auth: Literal["", "bearer", "api-key", "x-api-key"] = ""
    """The header that carries the key. Empty: bearer; api-key with `api_version` (Azure), x-api-key for anthropic."""
    headers: dict[str, str] = {}
    """Further headers; a value may be env:NAME, and must be where the name says that it is a secret."""
    api_version: str = ""
    """Azure's `api-version`, or the version of Anthropic's protocol."""
    stream: bool = True
    """Ask for the answer token by token. false: only `total_s` limits how long an answer takes."""
    timeouts: TimeoutSettings = TimeoutSettings()
    """Deadlines."""
    max_retries: Annotated[int, Field(ge=0, le=20)] = 4
    """Further attempts after a failure that may pass; never once a token was given on."""
    max_concurrent: Count = 8
    """Requests at once; more wait."""
    context_length: Count = 32_768
    """Tokens of prompt and answer together that the model takes."""
    tokenizer: str = ""
    """The model's own tokenizer, a folder or a name from `vivace models list`. Empty: lengths are estimated."""
    fields: dict[str, str] = {}
    """What the server calls a field of the request, such as seed = "random_seed"; "" leaves it out."""
    extra: dict[str, Any] = {}
    """Further fields of the request's body."""
    ignore_eos: bool = False
    """The server knows `ignore_eos` (vLLM, llama.cpp): answers of a fixed length can be measured."""
    likelihood: bool = False
    """The server tells the log-probabilities of a prompt (vLLM); needs `tokenizer`."""
    allow_plain_http: bool = False
    """Send a key over http:// to another machine."""
    price_per_million_input_tokens: Price | None = None
    """What a million prompt tokens cost, in USD."""
    price_per_million_output_tokens: Price | None = None
    """What a million answer tokens cost, in USD."""

    @property
    def url(self) -> str:
        """The address before the endpoint, without a slash at its end."""
        return (self.base_url or BASE_URLS[self.engine]).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether the server is this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def has_secret(self) -> bool:
        """Whether a request carries something that nobody else may see."""
        return bool(self.api_key) or any(value.startswith("env:") for value in self.headers.values())

    # On the whole table, because the value of a single key would be quoted in the error.
    @model_validator(mode="after")
    def _secrets_are_references(self) -> Self:
        if self.api_key and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", self.api_key):
            raise ValueError("write api_key as env:NAME, never as a value")
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not value.isprintable():
                raise ValueError(f"the header {name!r} cannot be sent")
            if _SECRET_HEADER.search(name) and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", value):
                raise ValueError(f"write the header {name} as env:NAME, never as a value")
        return self

    @model_validator(mode="after")
    def _address_is_usable(self) -> Self:
        parts = urlsplit(self.url)
        if "@" in parts.netloc:
            raise ValueError("base_url holds a name or password: use api_key or headers")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must begin with https:// or http:// and name a host")
        if parts.query or parts.fragment:
            raise ValueError("base_url holds a ? or #: Azure's version belongs into api_version")
        if (found := next((end for end in _ENDPOINTS if parts.path.endswith(end)), None)) is not None:
            raise ValueError(f"base_url ends in {found}, which Vivace adds")
        if parts.scheme == "http" and self.has_secret and not self.is_local and not self.allow_plain_http:
            raise ValueError("a key would go over http:// unencrypted: use https://, or set allow_plain_http = true")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if taken := sorted(OURS & (self.extra.keys() | self.fields.keys())):
            raise ValueError(f"{taken[0]} cannot be set or renamed")
        if self.likelihood and (self.engine != "openai" or not self.tokenizer):
            raise ValueError('likelihood needs engine = "openai" and tokenizer')
        if (self.price_per_million_input_tokens is None) != (self.price_per_million_output_tokens is None):
            raise ValueError("name both prices or none")
        return self


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost")
