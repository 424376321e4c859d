"""A model's small files: what is read from where, and what is wrong with broken ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from zerotide_runtime.assets import load_assets
from zerotide_runtime.chat_template import ChatTemplate
from zerotide_runtime.errors import InvalidModel, ModelNotFound, TemplateError, UnsupportedModel


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(tiny, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    return copy


def test_end_tokens_come_from_the_generation_config(folder: Path) -> None:
    assert load_assets(folder).end_tokens == frozenset()
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    assert load_assets(folder).end_tokens == {5, 6}
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 7}))
    assert load_assets(folder).end_tokens == {7}


def test_templates_in_older_places_are_found(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    assert load_assets(folder).template is None
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}yes"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named, "bos_token": {"content": "<s>"}}))
    template = load_assets(folder).template
    assert template is not None
    assert template.render([]) == "<s>yes"


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model folder"):
        load_assets(folder / "nothing")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"no tokenizer\.json"):
        load_assets(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        load_assets(folder)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_broken_files_are_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(InvalidModel, match=r"config\.json is not"):
        load_assets(folder)


def test_a_template_may_refuse() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(TemplateError, match="refuses these messages: roles must alternate"):
        template.render([])


@pytest.mark.parametrize(
    "source", ["{{ messages[0].content.nothing.more }}", "{{ 1 + 'a' }}", "{{ ''.__class__.__mro__ }}"]
)
def test_a_template_that_fails_is_said_to(source: str) -> None:
    with pytest.raises(TemplateError, match="failed"):
        ChatTemplate(source, {}).render([{"role": "user", "content": "x"}])


def test_a_template_with_an_error_is_said_to_have_one() -> None:
    with pytest.raises(TemplateError, match="has an error"):
        ChatTemplate("{% if %}", {})


def test_json_in_templates_is_not_escaped_as_html() -> None:
    assert ChatTemplate("{{ messages | tojson }}", {}).render([{"content": "<é>"}]) == '[{"content": "<é>"}]'
