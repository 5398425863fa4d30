"""Proxies and certificates from the environment, read as ``requests`` reads them."""

from __future__ import annotations

import os
from typing import Any

import pycurl
import requests.utils


class Environment:
    """Proxy and certificates for each base URL; each is read once."""

    def __init__(self) -> None:
        """Find the certificates of authorities."""
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        self._authorities = bundle or requests.utils.DEFAULT_CA_BUNDLE_PATH
        self._place = pycurl.CAPATH if os.path.isdir(self._authorities) else pycurl.CAINFO
        #: An account's base URL -> its proxy; empty for none.
        self._proxies: dict[str, str] = {}

    def apply(self, curl: Any, base_url: str) -> bool:
        """Set a handle's proxy and certificates.

        Returns:
            Whether a proxy is used.
        """
        proxy = self._proxies.get(base_url)
        if proxy is None:
            proxies = requests.utils.get_environ_proxies(base_url)
            proxy = self._proxies[base_url] = requests.utils.select_proxy(base_url, proxies) or ""
        # An empty proxy keeps libcurl from reading the environment itself.
        curl.setopt(pycurl.PROXY, proxy)
        curl.setopt(self._place, self._authorities)
        return bool(proxy)
