"""Each public page renders in each state and language, without any inline style or script."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser

import pytest
from jinja2 import StrictUndefined

from tests.design.conftest import STATIC, TEMPLATES, Renderer, pages

CASES = [(language, name) for language in ("de", "en") for name in pages(language)]
TOKEN_PAGES = [
    case for case in CASES if case[1].startswith(("confirm", "not-me", "unsubscribe", "pending", "code", "preferences"))
]


class Page(HTMLParser):
    """Collects tags, attributes and the visible text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """Attributes of each such tag that carries all wanted ones."""
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]


def test_every_template_compiles_when_loaded(renderer: Renderer) -> None:
    names = [path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*") if path.is_file()]
    own = [name for name in names if not name.startswith(("console/", "staff/"))]
    assert renderer.app.jinja_env.undefined is StrictUndefined
    for name in own:
        renderer.app.jinja_env.get_template(name)
    assert len(own) > 25


@pytest.mark.parametrize(("language", "name"), CASES)
def test_page_carries_no_inline_style_or_script_when_rendered(renderer: Renderer, language: str, name: str) -> None:
    page = Page(renderer.page(language, name))
    assert not page.all("script")
    assert not page.all("style")
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key == "style" or key.startswith("on")], (tag, attributes)
        for key in ("src", "href", "action"):
            assert not (attributes.get(key) or "").startswith("javascript:")
    foreign = [link for link in page.all("link") if not (link["href"] or "").startswith("/static/")]
    assert not foreign
    assert not page.all("img")


@pytest.mark.parametrize(("language", "name"), CASES)
def test_page_has_language_title_and_one_headline_when_rendered(renderer: Renderer, language: str, name: str) -> None:
    page = Page(renderer.page(language, name))
    expected = "en" if name == "docs" else language
    assert page.all("html", lang=expected)
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_controls_are_named_for_the_browser_when_form_opens(renderer: Renderer) -> None:
    page = Page(renderer.page("de", "form"))
    (email,) = page.all("input", name="email")
    assert email["autocomplete"] == "email"
    assert email["inputmode"] == "email"
    assert email["autocapitalize"] == "none"
    assert "novalidate" in page.all("form")[0]
    assert page.all("label", **{"for": email["id"] or ""})
    assert {field["name"] for field in page.all("input", type="hidden")} == {"form_version", "render_id"}


@pytest.mark.req("F15")
def test_no_box_is_ticked_when_form_opens(renderer: Renderer) -> None:
    boxes = Page(renderer.page("de", "form")).all("input", type="checkbox")
    assert [box["value"] for box in boxes] == ["product-news", "invitations"]
    assert not [box for box in boxes if "checked" in box]


@pytest.mark.req("F15")
def test_consent_text_is_shown_beside_each_box_when_form_opens(renderer: Renderer) -> None:
    text = Page(renderer.page("en", "form")).text
    assert "Yes, I would like to receive product news from Beispiel GmbH by e-mail twice a month." in text


@pytest.mark.req("F4")
@pytest.mark.req("F11")
def test_values_are_kept_and_the_summary_takes_focus_when_input_is_wrong(renderer: Renderer) -> None:
    page = Page(renderer.page("de", "form-errors"))
    (email,) = page.all("input", name="email")
    assert email["value"] == "anna.beispiel.example"
    assert email["aria-invalid"] == "true"
    assert page.all("p", id=email["aria-describedby"] or "")
    assert [box["value"] for box in page.all("input", type="checkbox") if "checked" in box] == ["product-news"]
    (summary,) = [found for _, found in page.tags if "autofocus" in found]
    assert summary["tabindex"] == "-1"
    targets = [(link["href"] or "")[1:] for link in page.all("a") if (link["href"] or "").startswith("#")]
    assert targets == ["field-email", "field-purpose"]
    assert all([found for _, found in page.tags if found.get("id") == target] for target in targets)


def test_typed_text_is_escaped_when_it_is_shown_again(renderer: Renderer) -> None:
    from tests.design.samples import Form, public_pages

    template, values = public_pages("de")["form-errors"]
    renderer.language = "de"
    values["form"] = Form('"><script>x</script>', [])
    with renderer.app.test_request_context("/"):
        source = renderer.app.jinja_env.get_template(template).render(
            {
                "controller": {"name": "<b>", "accent": None, "address": "", "imprint_url": "", "privacy_url": ""},
                **values,
            },
            locale="de",
        )
    assert "<script" not in source
    assert "<title>Bitte prüfen: Neues aus der Werkstatt · &lt;b&gt;</title>" in source


@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("name", ["pending", "pending-wait", "pending-wrong", "pending-spent", "pending-strict"])
def test_no_address_is_shown_when_the_mail_is_awaited(renderer: Renderer, language: str, name: str) -> None:
    page = Page(renderer.page(language, name))
    assert "@" not in page.text
    assert "•" not in page.text
    assert bool(page.all("form")) is (name not in ("pending-wait", "pending-spent"))


@pytest.mark.req("C9")
@pytest.mark.parametrize(("language", "words"), [("de", "Ja, ich möchte das"), ("en", "Yes, I want this")])
def test_one_post_form_with_the_nonce_is_offered_when_the_link_is_open(
    renderer: Renderer, language: str, words: str
) -> None:
    page = Page(renderer.page(language, "confirm-open"))
    (form,) = page.all("form")
    assert form == {"method": "post", "action": "/confirm/token"}
    assert [field["name"] for field in page.all("input")] == ["nonce"]
    assert words in page.text
    assert words not in renderer.mail("confirm", "body.html", language) + renderer.mail("confirm", "body.txt", language)


@pytest.mark.req("C9")
def test_page_and_its_files_weigh_at_most_20_kb_when_confirming(renderer: Renderer) -> None:
    files = [STATIC / "css" / "public.css", STATIC / "icons" / "favicon.svg"]
    weight = len(renderer.page("de", "confirm-young").encode()) + sum(path.stat().st_size for path in files)
    assert weight <= 20 * 1024


@pytest.mark.req("C10")
def test_a_resend_is_offered_only_when_it_is_possible(renderer: Renderer) -> None:
    page = Page(renderer.page("de", "confirm-expired"))
    assert page.all("input", name="resend", value="1")
    assert "a•••@beispiel.example" in page.text
    assert not Page(renderer.page("de", "confirm-bare")).all("form")


@pytest.mark.req("C10")
def test_no_personal_data_is_shown_when_none_is_held(renderer: Renderer) -> None:
    for name in ("confirm-bare", "confirmed-bare"):
        text = Page(renderer.page("de", name)).text
        assert "@" not in text
        assert "Produktneuheiten" not in text


@pytest.mark.req("A16")
@pytest.mark.parametrize(("language", "name"), TOKEN_PAGES)
def test_no_page_submits_or_moves_on_by_itself_when_opened(renderer: Renderer, language: str, name: str) -> None:
    page = Page(renderer.page(language, name))
    assert not page.all("script")
    assert not [meta for meta in page.all("meta") if "http-equiv" in meta]
    assert page.all("meta", name="robots", content="noindex")


@pytest.mark.req("U5")
def test_undo_carries_its_own_nonce_when_just_unsubscribed(renderer: Renderer) -> None:
    page = Page(renderer.page("de", "unsubscribe-ended"))
    assert len(page.all("input", name="undo")) == 1


@pytest.mark.req("U3")
def test_one_button_and_nothing_to_fill_in_is_offered_when_unsubscribing(renderer: Renderer) -> None:
    page = Page(renderer.page("de", "unsubscribe-active"))
    assert len(page.all("button")) == 1
    assert [field["type"] for field in page.all("input")] == ["hidden"]


def test_links_of_a_development_mail_are_clickable_and_its_text_escaped_when_shown(renderer: Renderer) -> None:
    source = renderer.page("en", "mail")
    assert 'href="http://127.0.0.1:8000/confirm/WyJjIiwiYWJjIl0.q3V8nC2b-_1kZ0yN5wT7uR9pLmX4s_"' in source
    assert "&lt;b&gt;" in source


def test_reference_shows_fields_scopes_and_a_safe_example_when_given_a_document(renderer: Renderer) -> None:
    page = Page(renderer.page("en", "docs"))
    links = {(link["href"] or "")[1:] for link in page.all("a") if (link["href"] or "").startswith("#")}
    assert links <= {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert len(page.all("article")) == 3
    assert "subscriptions.write" in page.text
    # A quote inside the JSON would end the shell's quoted string.
    assert """"purposes": ["anna'\\''s-news"], "origin": {"type": "fair"}}'""" in page.text
    assert "The person's address" in page.text


def test_public_style_weighs_at_most_6_kb_when_compressed() -> None:
    source = (STATIC / "css" / "public.css").read_bytes()
    assert len(gzip.compress(source, 9)) <= 6 * 1024
    assert not re.search(rb"@import|url\(|https?:", source)


def _luminance(colour: str) -> float:
    full = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
    parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _tokens() -> list[dict[str, str]]:
    source = (STATIC / "css" / "public.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", source, re.S)[:2]
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})\b", block)) for block in blocks]


@pytest.mark.parametrize("index", [0, 1], ids=["light", "dark"])
def test_colours_reach_aa_on_both_papers_when_measured(index: int) -> None:
    tokens = _tokens()[index]
    for paper in ("paper", "card"):
        for name in ("ink", "soft", "accent"):
            assert _contrast(tokens[name], tokens[paper]) >= 4.5, (name, paper)
        for name in ("field", "focus"):
            assert _contrast(tokens[name], tokens[paper]) >= 3, (name, paper)
    for name in ("ok", "warn", "bad"):
        assert _contrast(tokens[name], tokens[f"{name}-tint"]) >= 4.5, name
    for name in ("accent", "accent-strong"):
        assert _contrast(tokens["on-accent"], tokens[name]) >= 4.5, name
