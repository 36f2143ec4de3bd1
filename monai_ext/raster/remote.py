"""TIFFs by address, of which GDAL reads the parts that are needed, by range requests (`/vsicurl/`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import requests

from monai_ext.raster.errors import ImageFileError
from monai_ext.runtime.errors import network_reason
from monai_ext.runtime.plain_text import hide_secrets, without_secrets
from monai_ext.runtime.redirects import Session

__all__ = ["Address", "Source", "content_version", "gdal_settings", "source_of"]

WEB = re.compile(r"(?:/vsicurl/)?(https?://\S+)", re.IGNORECASE)
ELSEWHERE = re.compile(r"/vsi\w+/|\w{2,}://")
TOTAL = re.compile(r"bytes\s+\d+-\d+/(\d+)")
TIMEOUT_S = 30


@dataclass(frozen=True, repr=False)
class Address:
    """The address of a TIFF; as a text it has no keys, see `without_secrets`.

    Attributes:
        url: whole, http or https.
    """

    url: str

    def __str__(self) -> str:
        return without_secrets(self.url)

    __repr__ = __str__

    @property
    def gdal_name(self) -> str:
        """GDAL's name for it."""
        return f"/vsicurl/{self.url}"

    @property
    def stem(self) -> str:
        """Name of a file for it, without suffix."""
        return PurePosixPath(unquote(urlsplit(self.url).path).replace("\0", "")).stem.strip(".") or "image"

    @property
    def name(self) -> str:
        """Name of a file for it."""
        return f"{self.stem}{self.suffix}"

    @property
    def suffix(self) -> str:
        """What kind of file it is taken for, whatever its name."""
        return ".tif"


Source = Path | Address


def source_of(text: str | Path | Address) -> Source:
    """A path, or the address that a text is: `https://...` or `/vsicurl/https://...`.

    Raises:
        ValueError: an address of another kind, such as `s3://`.
    """
    if isinstance(text, Address):
        return text
    if match := WEB.fullmatch(str(text)):
        return Address(match[1])
    if ELSEWHERE.match(str(text)):
        raise ValueError(
            f"{without_secrets(str(text))}: only http and https addresses of TIFFs are read, such as a signed one "
            "(https://...?...) of a bucket."
        )
    return Path(text)


@lru_cache(maxsize=64)
def content_version(address: Address) -> tuple[str, str, str]:
    """Length, ETag and date of what is at an address, asked for once, with its first byte.

    It comes before GDAL opens the address, because GDAL follows every redirect and has no setting against it.

    Raises:
        ImageFileError: it does not answer, has no such file, refuses, sends files only as a whole, or redirects from a
            public address into a private network.
    """
    hide_secrets("urllib3.connectionpool")
    try:
        headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
        with (
            Session() as session,
            session.get(address.url, headers=headers, stream=True, timeout=TIMEOUT_S) as response,
        ):
            status, found = response.status_code, response.headers
    except (requests.RequestException, ValueError) as error:
        raise ImageFileError(f"cannot read image {address}: {network_reason(error)}.") from None
    if status in (404, 410):
        raise ImageFileError(f"image {address} does not exist (status {status}).")
    if status not in (200, 206):
        raise ImageFileError(f"the server refuses {address} (status {status}): check address and key.")
    total = TOTAL.match(found.get("Content-Range", ""))
    if status == 200 or total is None:
        raise ImageFileError(
            f"the server of {address} sends whole files only, no ranges of bytes: download it, then name the file."
        )
    return total[1], found.get("ETag", ""), found.get("Last-Modified", "")


def gdal_settings(address: Address) -> dict[str, str | int]:
    """GDAL's options under which it reads this address alone, and no files beside it."""
    hide_secrets("rasterio", "rasterio.env", "rasterio._base", "rasterio._env", "rasterio._err", "rasterio._io")
    return {
        "CPL_VSIL_CURL_ALLOWED_FILENAME": address.gdal_name,
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_INGESTED_BYTES_AT_OPEN": 2**15,
        "GDAL_HTTP_CONNECTTIMEOUT": TIMEOUT_S,
        "GDAL_HTTP_TIMEOUT": 4 * TIMEOUT_S,
        "GDAL_HTTP_MAX_RETRY": 3,
        "GDAL_HTTP_RETRY_DELAY": 1,
    }
