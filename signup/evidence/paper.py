"""What stands on the paper, in the order in which a court asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from signup.core.evidence import TsaConfig
from signup.evidence import files, letters, telling
from signup.evidence.anchors import Anchors
from signup.evidence.bundle import Bundle
from signup.evidence.checked import Checker, NotProven, check_blobs
from signup.evidence.telling import Step
from signup.evidence.words import REGIONS, Words

ANCHORS_PATH = "/.well-known/signup-evidence.json"
COMMAND = "python signup_verify.py bundle.json --anchors signup-evidence.json"
# Of each checkpoint the paper names origin, size and root, so that a copy kept elsewhere can be compared by eye.
CHECKPOINTS_TOLD = 12
MIME = {
    "json": "application/json",
    "eml": "message/rfc822",
    "html": "text/html",
    "leaf": "application/json",
    "tlog-proof": "text/plain",
    "tsr": "application/timestamp-reply",
}


@dataclass(frozen=True)
class Sheet:
    """All that a document is made of.

    Args:
        tsa: the authority whose time stamps can be checked here.
        public_url: of this service, where the keys are published.
    """

    bundle: Bundle
    anchors: Anchors
    tsa: TsaConfig | None
    public_url: str
    words: Words

    @cached_property
    def steps(self) -> list[Step]:
        return telling.steps(self.bundle.events, Checker(self.anchors, self.tsa))

    @cached_property
    def told(self) -> list[Step]:
        return telling.chosen(self.steps)

    @property
    def record(self) -> dict[str, Any]:
        return self.bundle.record

    @property
    def made_at(self) -> datetime:
        return datetime.fromisoformat(self.bundle.made_at)

    def first(self, kind: str) -> Step | None:
        return next((step for step in self.steps if step.kind == kind and step.proven), None)


def of_sheet(sheet: Sheet) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The data of the template, and the files to attach."""
    words, attached = sheet.words, _attached(sheet)
    who, controller = _who(sheet), _controller(sheet)
    record = str(sheet.record["record_id"])
    data = {
        "lang": words.locale,
        "region": REGIONS[words.locale],
        "title": words("title"),
        "subtitle": words("subtitle", who=who, controller=controller),
        "author": words.typed(controller),
        "record": record,
        "footer": words("footer", record=record[:8], made=words.moment(sheet.made_at)),
        "page": words("page"),
        "of": words("of"),
        "verdict": _verdict(sheet),
        "facts": list(_facts(sheet)),
        "texts": _texts(sheet),
        "steps": _steps(sheet),
        "mails": letters.told(sheet.bundle, sheet.told, words),
        "proven": {"title": words("proven.title"), "items": list(_proven(sheet))},
        "not_proven": {"title": words("not_proven.title"), "items": list(_not_proven(sheet))},
        "check": _check(sheet),
        "files": _files(attached, words),
    }
    return data, attached


def _who(sheet: Sheet) -> str:
    return str(sheet.record["subject"].get("email") or sheet.words("unknown"))


def _controller(sheet: Sheet) -> str:
    return str(sheet.record["parties"][0]["name"])


def _verdict(sheet: Sheet) -> dict[str, Any]:
    words, every = sheet.words, sheet.steps
    broken = _broken(sheet)
    if broken:
        return {"tone": "bad", "title": words("verdict.broken"), "text": broken}
    waiting = [step for step in every if not step.proven]
    text = [words("verdict.checked", sealed=len(every) - len(waiting), all=len(every))]
    if not every or any(not step.minor for step in waiting):
        text.append(words("verdict.waiting_text", waiting=len(waiting), all=len(every)))
        return {"tone": "warn", "title": words("verdict.waiting"), "text": text}
    if waiting:
        text.append(words("verdict.minor", waiting=len(waiting)))
    places = [step.place for step in every if step.place is not None and not step.minor]
    stamped = [place.stamped_at for place in places if place.stamped_at is not None]
    if places and len(stamped) == len(places):
        text.append(words("verdict.time", moment=words.moment(max(stamped))))
        return {"tone": "ok", "title": words("verdict.stamped"), "text": text}
    text.append(words("verdict.time_unchecked" if all(place.has_token for place in places) else "verdict.no_time"))
    return {"tone": "plain", "title": words("verdict.sealed"), "text": text}


def _broken(sheet: Sheet) -> list[str]:
    words = sheet.words
    found = [
        words("verdict.broken_text", number=step.number, reason=step.trouble)
        for step in sheet.steps
        if step.trouble is not None
    ]
    try:
        check_blobs(sheet.bundle)
    except NotProven:
        found.append(words("verdict.broken_file"))
    return found


def _facts(sheet: Sheet) -> Iterator[dict[str, Any]]:
    words, party = sheet.words, sheet.record["parties"][0]
    yield {"label": words("fact.person"), "value": words.typed(_who(sheet))}
    address = ", ".join(words.typed(party[name]) for name in ("address", "contact") if party.get(name))
    yield {"label": words("fact.controller"), "value": words.typed(party["name"]), "note": address or None}
    labels = files.labels(sheet.bundle)
    for purpose in sheet.record["purposes"]:
        label = words.typed(labels.get(purpose["code"], purpose["code"]))
        yield {"label": words("fact.purposes"), "value": label, "note": _state(purpose, words)}
    basis = sheet.record["legal_basis"]
    if basis:
        shown = words(f"basis.{basis}") if words.has(f"basis.{basis}") else words.typed(basis)
        yield {"label": words("fact.basis"), "value": shown}
    origin = sheet.record["origin"] or {}
    parts = [words.typed(origin[name]) for name in ("type", "detail", "collected_by") if origin.get(name)]
    if parts:
        yield {"label": words("fact.origin"), "value": ", ".join(parts)}
    redacted = sum(step.redacted for step in sheet.steps)
    if redacted:
        key = "fact.redacted_one" if redacted == 1 else "fact.redacted_value"
        yield {"label": words("fact.redacted"), "value": words(key, count=redacted)}


def _state(purpose: dict[str, Any], words: Words) -> str:
    """The consent as the record has it; its times as words."""
    moments = {
        name: words.moment(datetime.fromisoformat(purpose[f"{name}_at"])) if purpose[f"{name}_at"] else ""
        for name in ("requested", "given", "ended")
    }
    if purpose["ended_at"]:
        return words("state.withdrawn" if purpose["given_at"] else "state.ended", **moments)
    known = purpose["state"] if purpose["state"] in ("requested", "given") else "other"
    return words(f"state.{known}", state=purpose["state"], **moments)


def _texts(sheet: Sheet) -> dict[str, Any]:
    words = sheet.words
    holding = [step for step in sheet.told if step.fields.get("consent_texts")]
    asked = [
        {
            "title": words("texts.asked", moment=words.moment(step.time)) if step.time else words("unknown"),
            "boxes": list(_boxes(step, words)),
        }
        for step in holding
    ]
    if asked:
        lead = "texts.lead" if all(step.proven for step in holding) else "texts.lead_unsealed"
        return {"title": words("texts.title"), "lead": [words(lead)], "asked": asked}
    boxes = [
        _box(words("box.record", purpose=item["code"]), item["text"], item["text_sha256"], words)
        for item in sheet.record["purposes"]
    ]
    from_record = [{"title": words("texts.record"), "boxes": boxes}] if boxes else []
    lead = "texts.none" if boxes else "texts.gone"
    return {"title": words("texts.title"), "lead": [words(lead)], "asked": from_record}


def _boxes(step: Step, words: Words) -> Iterator[dict[str, Any]]:
    """Each wording with the state of its box; without a box, as it was asked."""
    boxes = {box["purpose"]: box for box in step.fields.get("boxes", [])}
    for item in step.fields["consent_texts"]:
        box = boxes.get(item["purpose"])
        if box is None:
            yield _box(words("box.record", purpose=item["purpose"]), item["text"], item["sha256"], words)
            continue
        default = words("box.default_on" if box["default"] else "box.default_off")
        label = words("box.ticked" if box["submitted"] else "box.empty", default=default)
        yield _box(label, item["text"], item["sha256"], words, ticked=bool(box["submitted"]))


def _box(label: str, text: str, sha256: str, words: Words, *, ticked: bool = True) -> dict[str, Any]:
    quoted = words("quote", text=text)
    return {"box": label, "text": quoted, "hash": f"SHA-256 {words.typed(sha256)}", "ticked": ticked}


def _steps(sheet: Sheet) -> dict[str, Any]:
    words = sheet.words
    left = len(sheet.steps) - len(sheet.told)
    return {
        "title": words("steps.title"),
        "lead": words("steps.lead", zone=words.timezone),
        "items": [telling.told(step, words) for step in sheet.told],
        "left": words("steps.left", count=left) if left else None,
    }


def _proven(sheet: Sheet) -> Iterator[str]:
    """What the sealed events show; nothing that only the record says."""
    words = sheet.words
    proven = [step for step in sheet.steps if step.proven]
    if not proven:
        yield words("proven.nothing")
        return
    if any(step.fields.get("consent_texts") for step in proven):
        yield words("proven.words")
    mail, confirmed = sheet.first("mail.accepted"), sheet.first("subscription.confirmed")
    if mail is not None:
        yield words("proven.mail", email=mail.fields.get("recipient") or words("unknown"))
    if confirmed is not None:
        yield words("proven.code" if confirmed.fields.get("act") == "code" else "proven.act")
        if _belong_together(proven, confirmed):
            yield words("proven.same")
    yield words("proven.unchanged")
    if any(step.place and step.place.stamped_at for step in proven):
        yield words("proven.stamped")


def _belong_together(proven: list[Step], confirmed: Step) -> bool:
    """Whether one question runs through request, mail and answer."""
    token, question = confirmed.fields.get("token_sha256"), confirmed.fields.get("confirmation")
    if token is None or question is None:
        return False
    asked = any(step.kind != confirmed.kind and step.fields.get("token_sha256") == token for step in proven)
    mailed = any(step.kind == "mail.accepted" and step.fields.get("confirmation") == question for step in proven)
    return asked and mailed


def _not_proven(sheet: Sheet) -> Iterator[str]:
    words = sheet.words
    places = [step.place for step in sheet.steps if not step.minor]
    if sheet.first("subscription.confirmed") is None:
        yield words("not_proven.confirm")
    if any(step.fields.get("sealed_late") for step in sheet.steps):
        yield words("not_proven.late")
    yield words("not_proven.identity")
    yield words("not_proven.window")
    if any(place is None or place.stamped_at is None for place in places):
        yield words("not_proven.no_stamp")
    if any(place is not None and place.has_token for place in places):
        yield words("not_proven.qualified")
    for key in ("ip", "read", "record"):
        yield words(f"not_proven.{key}")


def _check(sheet: Sheet) -> dict[str, Any]:
    words = sheet.words
    places = {step.place.size: step.place for step in sheet.told if step.place is not None}
    rows = [{"label": words("check.anchors"), "value": words.typed(sheet.public_url + ANCHORS_PATH), "mono": True}]
    for label, values in (("origin", {p.origin for p in places.values()}), ("key", {p.vkey for p in places.values()})):
        rows += [
            {"label": words(f"check.{label}"), "value": words.typed(item), "mono": True} for item in sorted(values)
        ]
    for size in sorted(places)[:CHECKPOINTS_TOLD]:
        root = words("check.root", root=places[size].root)
        rows.append({"label": words("check.checkpoint", size=size), "value": root, "mono": True})
    return {
        "title": words("check.title"),
        "text": [words("check.text")],
        "commands": [COMMAND],
        "after": [words("check.after")],
        "rows": rows,
    }


def _attached(sheet: Sheet) -> dict[str, bytes]:
    """Bundle, mails and forms; leaf, proof and time stamp of each event that is told."""
    told = {f"{step.number:04d}" for step in sheet.told}
    return {
        name: content
        for name, content in files.of_bundle(sheet.bundle).items()
        if name[:4] in told or not name[:4].isdigit()
    }


def _files(attached: dict[str, bytes], words: Words) -> dict[str, Any]:
    items = []
    for name, content in attached.items():
        ending = name.rpartition(".")[2]
        items.append(
            {
                "name": name,
                "size": str(len(content)),
                "sha256": hashlib.sha256(content).hexdigest(),
                "mime": MIME[ending],
                "about": words(f"file.{ending}"),
                "relationship": "data" if name == "bundle.json" else "supplement",
            }
        )
    head = [words(f"files.{name}") for name in ("name", "size", "sha256")]
    return {"title": words("files.title"), "lead": words("files.lead"), "head": head, "items": items}
