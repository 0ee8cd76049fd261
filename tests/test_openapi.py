"""The API keeps what docs/openapi.json promises, whatever is sent to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from headwater.serve.app import create_app
from tests.serving import COMPLETION, ODD_ID, PROMPT, live, make_run

EXAMPLES = 12
CONFIG: dict[str, Any] = {
    # What fits the schema may still be wrong: a span that is not in the completion, a text longer than the model reads.
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "422", "429"]}},
    "generation": {"max-examples": EXAMPLES},
}


schema = schemathesis.openapi.from_dict(
    create_app("runs/never-opened").openapi(), config=SchemathesisConfig.from_dict(CONFIG)
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with live(make_run(tmp_path_factory.mktemp("openapi"))) as address:
        yield address


@pytest.fixture(scope="module")
def there(url: str) -> dict[str, str]:
    """Ids of what is there, by the path that takes them: a question answered, an example."""
    body = json.dumps({"prompt": PROMPT, "completion": COMPLETION, "k": 2}).encode()
    request = Request(f"{url}/v1/influences?wait=20", body, {"Content-Type": "application/json"})
    return {"/v1/jobs/": json.loads(urlopen(request).read())["id"], "/v1/examples/": quote(ODD_ID, safe="")}


@schema.parametrize()  # pyright: ignore[reportUntypedFunctionDecorator]
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_every_operation_keeps_its_promises(case: Any, url: str, there: dict[str, str]) -> None:
    case.call_and_validate(base_url=url)
    for prefix, id in there.items():
        if case.path.startswith(prefix) and case.meta.generation.mode.is_positive:
            case.path_parameters = {"id": id}
            assert case.call_and_validate(base_url=url).status_code != 404


def test_the_document_in_docs_is_what_the_server_says() -> None:
    written = Path(__file__).parents[1] / "docs" / "openapi.json"
    assert json.loads(written.read_text(encoding="utf-8")) == schema.raw_schema
