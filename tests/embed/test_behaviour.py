"""What the script does where the form stands: errors, waiting, failing, handing over, telling the host."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import expect
from sqlalchemy import update

from signup.abuse import challenge
from signup.core.db import database, reading, transaction
from signup.core.values import utc_now
from signup.forms import actions as forms
from signup.forms import views
from signup.forms.models import Form, FormVersion
from signup.purposes.colours import theme
from signup.purposes.models import Controller
from tests.embed.conftest import Stage
from tests.support.waiting import wait_for

pytestmark = pytest.mark.browser

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
EVENTS = ("ready", "view", "start", "submit", "pending", "error")
LISTEN = """
window.seen = [];
for (const name of %s)
  document.addEventListener("doi:" + name, (event) => window.seen.push([name, event.target.localName, event.detail]));
"""


def fill(form: Any, email: str = "anna@kundin.example") -> None:
    form.get_by_label("E-Mail-Adresse").fill(email)
    form.get_by_label("Produktneuheiten").check()


def send(form: Any) -> None:
    form.get_by_role("button", name="Anmelden", exact=True).click()


def spend(stage: Stage) -> None:
    """The visitor's network has sent so much that it is asked for a proof."""
    client = stage.proxy.app.test_client()
    for number in range(20):
        fields = {"email": f"other{number}@kundin.example", "purpose": "product-news"}
        headers = {"X-Forwarded-For": stage.proxy.address, "Accept": "application/json"}
        told = client.post("/f/demo-de", data=fields, headers=headers).get_json()
        if told.get("code") == "proof":
            return
    raise AssertionError("no sign-up was ever in doubt")


@pytest.mark.req("F11")
def test_each_error_is_beside_its_field_and_in_the_summary_when_input_is_wrong(stage: Stage) -> None:
    with stage.visit() as page:
        page.goto(stage.embedded("element", "demo-en"))
        page.get_by_label("E-mail address").fill("anna")
        page.get_by_role("button", name="Sign up", exact=True).click()
        summary = page.get_by_role("group", name="Please check 2 entries")
        expect(summary).to_be_focused()
        field = page.get_by_label("E-mail address")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description("The e-mail address needs an @, as in name@example.org.")
        expect(field).to_have_value("anna")
        for box in page.get_by_role("checkbox").all():
            expect(box).to_have_accessible_description("Please tick what you would like to receive.")
        before = page.url
        summary.get_by_role("link").first.click()
        expect(field).to_be_focused()
        assert page.url == before, "a host's router must not see a new address"
        field.fill("anna@kundin.example")
        page.get_by_label("Product news").check()
        page.get_by_role("button", name="Sign up", exact=True).click()
        expect(page.get_by_text("Please open your mailbox")).to_be_visible()
        expect(page.locator(".doi-error")).to_have_count(0)
    assert list(stage.pending()) == ["anna@kundin.example"]


@pytest.mark.req("F14")
def test_one_request_is_sent_when_the_button_is_pressed_twice_and_the_page_comes_back(stage: Stage) -> None:
    with stage.visit() as page:
        sent: list[Any] = []

        def hold(route: Any) -> None:
            sent.append(route)

        page.route(f"{stage.url}/f/demo-de", hold)
        page.goto(stage.embedded("script"))
        fill(page)
        send(page)
        button = page.locator("button[type=submit]")
        expect(button).to_have_text("Wird gesendet …")
        expect(page.get_by_role("status")).to_have_text("Wird gesendet …")
        button.click(force=True)
        button.click(force=True)
        assert len(sent) == 1
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
        expect(button).to_have_text("Anmelden")
        expect(button).not_to_have_attribute("aria-disabled", "true")
        sent.pop().continue_()
        expect(page.get_by_text("Bitte das Postfach öffnen")).to_be_visible()
        expect(page.locator(".doi-done")).to_be_focused()


def test_a_second_sign_up_is_a_new_one_when_the_address_was_mistyped(stage: Stage) -> None:
    with stage.visit() as page:
        page.goto(stage.embedded("script"))
        first = page.locator("input[name=render_id]").input_value()
        fill(page, "ana@kundin.example")
        send(page)
        page.get_by_role("button", name="Zurück zum Formular").click()
        expect(page.get_by_label("E-Mail-Adresse")).to_be_focused()
        assert len(first) == 32
        assert page.locator("input[name=render_id]").input_value() != first
        page.get_by_label("E-Mail-Adresse").fill("anna@kundin.example")
        send(page)
        expect(page.get_by_text("Bitte das Postfach öffnen")).to_be_visible()
    assert stage.pending().keys() == {"ana@kundin.example", "anna@kundin.example"}


@pytest.mark.req("F11")
def test_our_own_page_is_offered_with_the_values_when_nobody_answers_for_fifteen_seconds(stage: Stage) -> None:
    with stage.visit() as page:
        page.clock.install()
        page.goto(stage.embedded("element"))
        page.route(f"{stage.url}/f/demo-de", lambda _route: None)
        fill(page)
        send(page)
        expect(page.locator("form")).to_have_attribute("aria-busy", "true")
        page.clock.fast_forward(14_000)
        expect(page.locator("form")).to_have_attribute("aria-busy", "true")
        page.clock.fast_forward(2_000)
        expect(page.get_by_role("group", name="Keine Antwort.")).to_be_focused()
        expect(page.get_by_label("E-Mail-Adresse")).to_have_value("anna@kundin.example")
        page.unroute_all(behavior="ignoreErrors")
        page.get_by_role("button", name="Auf der Anmeldeseite weitermachen").click()
        expect(page.locator("h1")).to_have_text("Bitte sehen Sie in Ihr Postfach")
    assert len(stage.pending()) == 1


@pytest.mark.req("F8")
def test_our_own_page_takes_over_with_the_values_when_the_site_is_not_listed(stage: Stage) -> None:
    with transaction() as session:
        session.execute(update(Form).where(Form.slug == "demo-de").values(allowed_origins=["https://shop.example"]))
    with stage.visit() as page:
        page.goto(stage.embedded("element"))
        fill(page)
        send(page)
        page.get_by_role("button", name="Auf der Anmeldeseite weitermachen").click()
        page.wait_for_url(f"{stage.url}/f/demo-de")
        expect(page.get_by_label("E-Mail-Adresse")).to_have_value("anna@kundin.example")
        expect(page.get_by_label("Produktneuheiten")).to_be_checked()
        assert stage.pending() == {}
        send(page)
        expect(page.locator("h1")).to_have_text("Bitte sehen Sie in Ihr Postfach")
    assert list(stage.pending()) == ["anna@kundin.example"]


@pytest.mark.req("F19")
@pytest.mark.parametrize("kind", ["element", "shadow", "iframe"])
def test_the_host_hears_each_step_and_nothing_typed_when_somebody_signs_up(stage: Stage, kind: str) -> None:
    with stage.visit() as page:
        page.add_init_script(LISTEN % json.dumps(EVENTS))
        if kind == "shadow":
            made = stage.embed("element")
            page.goto(stage.host.put("/shadow", made.html.replace("<doi-form", "<doi-form shadow"), ""))
        else:
            page.goto(stage.embedded(kind))
        form = page.frame_locator("iframe") if kind == "iframe" else page
        send(form)
        expect(form.locator(".doi-box")).to_be_visible()
        fill(form)
        send(form)
        expect(form.get_by_text("Bitte das Postfach öffnen")).to_be_visible()
        target = {"element": "form", "shadow": "doi-form", "iframe": "iframe"}[kind]

        def told() -> list[Any]:
            found: list[Any] = page.evaluate("window.seen")
            return found if [name for name, _target, _detail in found][-1:] == ["pending"] else []

        seen = wait_for(told, describe="doi:pending at the host")
        # The frame may be ready before anybody listens, and how long a form is in sight is not ours to say.
        names = [name for name, _target, _detail in seen if name not in ("ready", "view")]
        assert names == ["submit", "error", "start", "submit", "pending"]
        assert {at for _name, at, _detail in seen} == {target}
        assert all(detail["form"] == "demo-de" for _name, _at, detail in seen)
        assert "kundin" not in json.dumps(seen)
        codes = [detail["codes"] for name, _at, detail in seen if name == "error"]
        assert codes == [["email:required", "purpose:required"]]


@pytest.mark.req("F22")
def test_the_frame_is_as_high_as_its_form_and_obeys_nobody_else_when_shown(stage: Stage) -> None:
    with stage.visit(viewport={"width": 320, "height": 640}) as page:
        page.goto(stage.embedded("iframe"))
        expect(page.frame_locator("iframe").get_by_label("E-Mail-Adresse")).to_be_visible()

        def fits() -> bool:
            inner = page.frames[1].evaluate("document.documentElement.scrollHeight")
            return bool(inner > 400 and abs(page.evaluate("+document.querySelector('iframe').height") - inner) <= 1)

        wait_for(fits, describe="a frame as high as its page")
        before = page.evaluate("document.querySelector('iframe').height")
        page.evaluate("postMessage({doi: 'height', height: 4000}, '*')")
        page.evaluate("new Promise(requestAnimationFrame)")
        assert page.evaluate("document.querySelector('iframe').height") == before
        assert page.locator("iframe").get_attribute("title") == "Neues aus der Werkstatt"
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.req("F22")
def test_a_frame_below_the_fold_is_quiet_until_it_is_reached_and_fits_then(stage: Stage) -> None:
    made = stage.embed("iframe")
    tall = '<svg width="10" height="9000" aria-hidden="true"></svg>'
    policy = "; ".join(["default-src 'none'", *made.csp])
    with stage.visit(viewport={"width": 320, "height": 640}) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(stage.host.put("/below", tall + made.html, policy))
        page.wait_for_load_state("networkidle")
        assert not [url for url in asked if url.endswith("/frame")], "the frame is loaded late"
        assert page.complaints == []  # type: ignore[attr-defined]
        page.locator("iframe").scroll_into_view_if_needed()
        expect(page.frame_locator("iframe").get_by_label("E-Mail-Adresse")).to_be_visible()
        wait_for(
            lambda: page.locator("iframe").get_attribute("height") != "760", describe="a frame of the form's height"
        )
        assert page.complaints == []  # type: ignore[attr-defined]


@pytest.mark.req("F21")
def test_the_dialog_closes_by_escape_and_returns_the_focus_when_opened_by_keyboard(stage: Stage) -> None:
    with stage.visit() as page:
        page.goto(stage.embedded("popup"))
        opener = page.get_by_role("button", name="Neues aus der Werkstatt: Anmelden")
        said: list[str] = []
        page.on("console", lambda line: said.append(line.text))
        opener.focus()
        page.keyboard.press("Space")
        dialog = page.get_by_role("dialog", name="Neues aus der Werkstatt")
        expect(dialog).to_be_visible()
        assert page.evaluate("document.activeElement.closest('dialog') !== null")
        assert said == []
        fill(dialog)
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(opener).to_be_focused()
        page.keyboard.press("Enter")
        expect(dialog.get_by_label("E-Mail-Adresse")).to_have_value("anna@kundin.example")
        dialog.get_by_role("button", name="Schließen").click()
        expect(dialog).to_be_hidden()
        assert page.url.startswith(stage.host.url)


@pytest.mark.parametrize("kind", ["script", "element", "iframe"])
def test_the_steps_speak_of_the_code_when_only_the_code_confirms(stage: Stage, kind: str) -> None:
    with transaction() as session:
        made = forms.in_force(session, "demo-de")
        words = {**made.definition, "strict": True}
        session.execute(update(FormVersion).where(FormVersion.id == made.version_id).values(definition=words))
    with stage.visit() as page:
        page.goto(stage.embedded(kind))
        here = page.frame_locator("iframe") if kind == "iframe" else page
        if kind == "iframe":
            page.locator("iframe").scroll_into_view_if_needed()
        fill(here)
        send(here)
        steps = ["Die Mail mit dem Code öffnen.", "Die Seite darin öffnen, auf einem beliebigen Gerät."]
        expect(here.locator(".doi-done li")).to_have_text([*steps, "Den Code dort eintippen."])


@pytest.mark.req("F9")
def test_looks_survive_a_reset_follow_properties_and_the_hosts_scheme_when_styled(stage: Stage) -> None:
    reset = "<style>*,::before{margin:0;padding:0;border:0;font:inherit} button{all:unset} label{float:left}</style>"
    with stage.visit(color_scheme="dark") as page:
        page.goto(stage.host.put("/reset", reset + stage.embed("element").html, ""))
        button, field = page.locator("button[type=submit]"), page.get_by_label("E-Mail-Adresse")
        for part in (button, field):
            box = part.bounding_box()
            assert box
            assert box["height"] >= 44
            assert box["width"] > 200
        assert button.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(92, 194, 210)"
        page.evaluate("document.documentElement.style.setProperty('--doi-accent', 'rgb(1, 2, 3)')")
        page.evaluate("document.documentElement.style.colorScheme = 'light'")
        page.evaluate("document.querySelector('meta[name=color-scheme]').remove()")
        page.mouse.move(0, 0)
        assert button.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(1, 2, 3)"
        assert page.locator(".doi").evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.req("F20")
def test_a_view_is_counted_once_when_the_form_stays_in_sight(stage: Stage) -> None:
    # A browser without a window calls itself that, and a machine is not counted.
    with stage.visit(user_agent=BROWSER) as page:
        page.goto(stage.embedded("element"))

        def counted() -> int:
            with reading() as session:
                view = forms.in_force(session, "demo-de")
                since = utc_now() - timedelta(hours=1)
                return views.total(session, view.controller.id, view.id, since=since)

        wait_for(counted, describe="a counted view")
        page.mouse.wheel(0, 2000)
        page.mouse.wheel(0, -2000)
        assert counted() == 1


@pytest.mark.req("A6")
def test_the_proof_is_there_before_the_form_is_sent_when_the_form_asks_for_one(stage: Stage) -> None:
    made = stage.embed("script")
    snippet = made.html.replace("<form ", '<form data-doi-challenge="/f/demo-de/challenge" ')
    policy = "; ".join(["default-src 'none'", *made.csp])
    with stage.visit() as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        page.goto(stage.host.put("/proof", snippet, policy))
        assert not any(url.endswith("/challenge") for url in sent), "nothing is fetched before somebody begins"
        fill(page)
        expect(page.get_by_role("status")).to_have_text("Sicherheitsprüfung fertig.", timeout=30_000)
        proof = page.locator("input[name=altcha]").input_value()
        with reading() as session:
            view = forms.in_force(session, "demo-de")
        keys = database().sessions.kw["keys"]
        assert challenge.verify(keys, view.id, proof, now=utc_now()) is not None
        assert challenge.verify(keys, "frm_other", proof, now=utc_now()) is None
        send(page)
        expect(page.get_by_text("Bitte das Postfach öffnen")).to_be_visible()
        assert page.complaints == []  # type: ignore[attr-defined]
    assert len(stage.pending()) == 1


@pytest.mark.req("A6")
def test_a_doubt_is_dispelled_where_the_form_stands_when_the_network_is_busy(stage: Stage) -> None:
    with stage.visit() as page:
        spend(stage)
        page.goto(stage.embedded("element"))
        fill(page)
        send(page)
        expect(page.get_by_text("Bitte das Postfach öffnen")).to_be_visible(timeout=30_000)
        assert page.url.startswith(stage.host.url)
    assert "anna@kundin.example" in stage.pending()


@pytest.mark.req("A6")
def test_our_own_page_solves_the_puzzle_by_itself_when_the_network_is_busy(stage: Stage) -> None:
    with stage.visit() as page:
        spend(stage)
        page.goto(f"{stage.url}/f/demo-de")
        fill(page)
        send(page)
        expect(page.locator("form[data-doi-challenge]")).to_be_visible()
        page.complaints.clear()  # type: ignore[attr-defined] # the browser's line about the status before
        with page.expect_request(lambda request: request.method == "POST") as sent:
            send(page)
        expect(page.locator("h1")).to_have_text("Bitte sehen Sie in Ihr Postfach")
        assert len(parse_qs(sent.value.post_data or "")["altcha"][0]) > 200
        assert page.complaints == []  # type: ignore[attr-defined]
    assert "anna@kundin.example" in stage.pending()


@pytest.mark.req("A6")
def test_a_page_waits_for_its_proof_and_sends_it_with_the_pressed_button_when_pressed_at_once(stage: Stage) -> None:
    html = stage.embed("script").html.replace(' data-doi="demo-de"', ' data-doi-challenge="/f/demo-de/challenge"')
    html = html.replace('type="submit"', 'type="submit" name="pressed" value="this"')
    with stage.visit() as page:
        page.goto(stage.host.put("/hold", html, ""))
        fill(page)
        with page.expect_request(lambda request: request.method == "POST" and request.is_navigation_request()) as sent:
            send(page)
        expect(page.locator("h1")).to_have_text("Bitte sehen Sie in Ihr Postfach")
        fields = parse_qs(sent.value.post_data or "")
        assert fields["pressed"] == ["this"]
        assert len(fields["altcha"][0]) > 200
    assert len(stage.pending()) == 1


def test_the_form_is_sent_without_a_proof_when_the_puzzle_cannot_be_had(stage: Stage) -> None:
    made = stage.embed("script")
    snippet = made.html.replace("<form ", '<form data-doi-challenge="/f/demo-de/nothing" ')
    with stage.visit() as page:
        page.goto(stage.host.put("/no-proof", snippet, ""))
        fill(page)
        send(page)
        expect(page.get_by_text("Bitte das Postfach öffnen")).to_be_visible()
    assert len(stage.pending()) == 1


def test_a_link_stays_when_the_form_cannot_be_loaded(stage: Stage) -> None:
    with stage.visit() as page:
        html = stage.embed("element").html.replace('form="demo-de"', 'form="gone"')
        page.goto(stage.host.put("/gone", html, ""))
        expect(page.get_by_role("link", name="Neues aus der Werkstatt: Anmelden")).to_be_visible()
        assert page.locator("form").count() == 0


def test_names_that_the_form_keeps_go_along_when_the_hosts_address_has_them(stage: Stage) -> None:
    html = stage.embed("script").html.replace("<form ", '<form data-doi-take="utm_source utm_medium" ')
    with stage.visit() as page:
        page.goto(stage.host.put("/take", html, "") + "?utm_source=flyer&utm_campaign=x&utm_medium=" + "y" * 300)
        expect(page.locator("input[name=render_id]")).to_have_count(1)
        assert page.locator("input[name=utm_source]").input_value() == "flyer"
        assert page.locator("input[name=utm_medium]").input_value() == "y" * 200
        assert page.locator("input[name=utm_campaign]").count() == 0


def test_the_forms_own_colour_is_shown_when_it_has_one(stage: Stage) -> None:
    with transaction() as session:
        session.execute(update(Controller).values(accent="#8a1c4a"))
    for kind, scheme, colour in (("element", "light", "#8a1c4a"), ("iframe", "dark", theme("#8a1c4a").dark.accent)):
        with stage.visit(color_scheme=scheme) as page:
            page.goto(stage.embedded(kind))
            inner = page.frame_locator("iframe") if kind == "iframe" else page
            wanted = "rgb({}, {}, {})".format(*bytes.fromhex(colour[1:]))
            expect(inner.locator("button[type=submit]")).to_have_css("background-color", wanted)
            assert page.complaints == []  # type: ignore[attr-defined]


def test_two_of_the_same_form_stay_apart_when_on_one_page(stage: Stage) -> None:
    with stage.visit() as page:
        html = stage.embed("element").html
        page.goto(stage.host.put("/two", html + html, ""))
        expect(page.locator("form")).to_have_count(2)
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
        assert len(ids) == len(set(ids))
        page.get_by_label("E-Mail-Adresse").nth(1).fill("anna@kundin.example")
        page.get_by_label("Einladungen").nth(1).check()
        page.get_by_role("button", name="Anmelden", exact=True).nth(1).click()
        expect(page.get_by_text("Bitte das Postfach öffnen")).to_be_visible()
        expect(page.locator("form:visible")).to_have_count(1)
