"""Sizes in bytes are parsed and printed as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.byte_sizes import in_bytes, parse_bytes, size_of
from headwater.errors import HeadwaterError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16GiB", 16 << 30),
        ("800 MB", 800_000_000),
        ("1.5kB", 1500),
        ("12", 12),
        ("2 TiB", 2 << 40),
        (" .5 KiB ", 512),
        ("0", 0),
        ("7 B", 7),
    ],
)
def test_bytes_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GB",
        "16 gigs",
        "-1GB",
        "1e9",
        "1,000,000",
        "1,5GB",
        "8Gbit",
        "16GiB!",
        "16 GiB 2",
        "KB",
        "1KB",
        "1gb",
        "١GB",
    ],
)
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(HeadwaterError, match=r"is no number of bytes\. Write it as 16GiB, 800MB or 1000000\."):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (123_456_789, "123 MB"),
        (17_179_869_184, "17.2 GB"),
        (5_432_100_000_000_000, "5,432 TB"),
    ],
)
def test_sizes_are_printed_to_three_digits(size: int, expected: str) -> None:
    assert in_bytes(size) == expected


@given(st.integers(min_value=0, max_value=99_999_999_999_999))
def test_what_is_printed_can_be_read(size: int) -> None:
    assert parse_bytes(in_bytes(size).replace(",", "")) == pytest.approx(size, rel=0.005)


def test_a_folder_is_as_large_as_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"123")
    assert (size_of(tmp_path), size_of(tmp_path / "y"), size_of(tmp_path / "none")) == (8, 3, 0)
