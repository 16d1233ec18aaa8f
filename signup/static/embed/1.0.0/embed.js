// Enhances sign-up forms where they stand. No dependency, no cookie, no storage, nothing from any other host.

const HOME = import.meta.url.replace(/\/embed\/[^]*/, "");
const SHEET = "@embed.css";
// After this long the visitor is offered our own page.
const PATIENCE_MS = 15_000;
// A proof counts for ten minutes; a new one is ready before that.
const PROOF_MS = 540_000;
// Nobody waits longer than this for a proof: the page that asks for it lets people through without one.
const PROOF_PATIENCE_MS = 30_000;

const WORDS = {
  de: {
    busy: "Wird gesendet …",
    check: (n) => (n > 1 ? `Bitte ${n} Angaben prüfen` : "Bitte eine Angabe prüfen"),
    away: "Keine Antwort. Nichts ist verloren: Alle Angaben stehen noch da.",
    go: "Auf der Anmeldeseite weitermachen",
    badge: "Noch nicht fertig",
    title: "Bitte das Postfach öffnen",
    steps: "Die Mail mit dem Link öffnen.|Den Link öffnen, auf einem beliebigen Gerät.|Dort den einen Knopf drücken.",
    spam: "Keine Mail nach einer Minute? Bitte auch im Spam-Ordner nachsehen.",
    back: "Adresse vertippt? Zurück zum Formular",
    proving: "Sicherheitsprüfung läuft …",
    proved: "Sicherheitsprüfung fertig.",
    close: "Schließen",
    load: "Das Formular lässt sich gerade nicht laden.",
  },
  en: {
    busy: "Sending …",
    check: (n) => (n > 1 ? `Please check ${n} entries` : "Please check one entry"),
    away: "No answer. Nothing is lost: all entries are still there.",
    go: "Continue on the sign-up page",
    badge: "Not finished yet",
    title: "Please open your mailbox",
    steps: "Open the mail with the link.|Open the link, on any device.|Press the one button there.",
    spam: "No mail after a minute? Please look in the spam folder too.",
    back: "Mistyped? Back to the form",
    proving: "Security check in progress …",
    proved: "Security check done.",
    close: "Close",
    load: "The form cannot be loaded right now.",
  },
};

let styles;
let count = 0;
const known = new WeakSet();

function style(root) {
  if (!styles) (styles = new CSSStyleSheet()).replaceSync(SHEET);
  if (!root.adoptedStyleSheets.includes(styles)) root.adoptedStyleSheets = [...root.adoptedStyleSheets, styles];
}

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  node.append(...children);
  return node;
}

const words = (node) => WORDS[(node.closest("[lang]") || document.documentElement).lang.slice(0, 2)] || WORDS.en;
const fire = (node, name, detail) =>
  node.dispatchEvent(new CustomEvent("doi:" + name, { bubbles: true, composed: true, detail }));
const fresh = () => [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");

// The form's own colour, readable on both papers; a property that the host sets goes before it.
function tint(root) {
  const colours = root.dataset.doiAccent?.split(/[ ;]/);
  const both = CSS.supports("color", "light-dark(#000, #fff)");
  ["accent", "accent-strong", "on-accent"].forEach((name, n) => {
    const own = colours && (both ? `light-dark(${colours[n]}, ${colours[n + 3]})` : colours[n]);
    if (own) root.style.setProperty(["--_accent", "--_strong", "--_on"][n], `var(--doi-${name}, ${own})`);
  });
}

function hide(form, hidden) {
  form.hidden = hidden;
  const root = form.closest(".doi");
  if (root) for (const node of root.querySelectorAll(".doi-title, .doi-intro")) node.hidden = hidden;
}

// --- Proof of work: the counter whose key begins as the server asks, found in slices between which the page lives on.

const bytes = (hex) => new Uint8Array(hex.match(/../g).map((two) => parseInt(two, 16)));
const hex = (buffer) => [...new Uint8Array(buffer)].map((n) => n.toString(16).padStart(2, "0")).join("");

async function derive(parameters, counter) {
  const nonce = bytes(parameters.nonce);
  const secret = new Uint8Array(nonce.length + 4);
  secret.set(nonce);
  new DataView(secret.buffer).setUint32(nonce.length, counter);
  const key = await crypto.subtle.importKey("raw", secret, "PBKDF2", false, ["deriveBits"]);
  const how = { name: "PBKDF2", hash: "SHA-256", salt: bytes(parameters.salt), iterations: parameters.cost };
  return hex(await crypto.subtle.deriveBits(how, key, (parameters.keyLength || 32) * 8));
}

export async function solve(challenge) {
  const { parameters } = challenge;
  const begun = performance.now();
  for (let first = 0; ; first += 4) {
    const keys = await Promise.all([0, 1, 2, 3].map((step) => derive(parameters, first + step)));
    const found = keys.findIndex((key) => key.startsWith(parameters.keyPrefix));
    if (found >= 0) {
      const solution = { counter: first + found, derivedKey: keys[found], time: Math.round(performance.now() - begun) };
      return btoa(JSON.stringify({ challenge, solution }));
    }
  }
}

// Keeps a valid proof in the form's hidden field from the first touch on.
function prover(form, say) {
  const url = new URL(form.dataset.doiChallenge, HOME);
  const text = words(form);
  let field = form.querySelector("input[name=altcha]");
  if (!field) form.append((field = make("input", { type: "hidden", name: "altcha" })));
  let work, made, timer;
  const stale = () => !work || performance.now() - made > PROOF_MS;
  const start = (quiet) => {
    clearTimeout(timer);
    field.value = "";
    made = performance.now();
    if (!quiet) say(text.proving);
    timer = setTimeout(start, PROOF_MS, true);
    const mine = (work = fetch(url, { credentials: "omit" })
      .then((answer) => answer.json())
      .then(solve)
      .then((proof) => {
        if (mine !== work) return;
        field.value = proof;
        if (!quiet) say(text.proved);
      })
      .catch(() => say("")));
    return work;
  };
  // Without the browser's own cryptography, which it keeps from insecure pages, the server asks in another way.
  if (!globalThis.crypto?.subtle) return { ready: () => true, wait: async () => {}, spent() {} };
  form.addEventListener("focusin", () => stale() && start());
  return {
    ready: () => !!field.value && !stale(),
    wait: () => Promise.race([stale() ? start() : work, new Promise((done) => setTimeout(done, PROOF_PATIENCE_MS))]),
    spent() {
      work = null;
      if (form.contains(document.activeElement)) start(true);
    },
  };
}

// --- The form

export function enhance(form) {
  if (known.has(form)) return;
  known.add(form);
  const status = make("p", { class: form.dataset.doi ? "doi-status" : "note", role: "status" });
  form.append(status);
  const proof = form.dataset.doiChallenge && prover(form, (text) => (status.textContent = text));
  if (form.hasAttribute("data-doi")) new Embedded(form, status, proof);
  else if (proof) hold(form, proof);
}

// A page of ours sends itself; it only waits for the proof.
function hold(form, proof) {
  form.addEventListener("submit", async (event) => {
    if (proof.ready() || form.doiWaited) return;
    event.preventDefault();
    await proof.wait();
    form.doiWaited = true;
    form.requestSubmit(event.submitter);
  });
}

class Embedded {
  constructor(form, status, proof) {
    Object.assign(this, { form, status, proof, words: words(form), url: new URL(form.getAttribute("action"), HOME) });
    this.slug = form.dataset.doi || this.url.pathname.split("/").pop();
    this.button = form.querySelector("[type=submit]");
    this.label = this.button.textContent;
    this.id = `doi-${++count}`;
    style(form.getRootNode());
    const root = form.closest(".doi");
    if (root) tint(root);
    this.take();
    this.mint();
    form.addEventListener("submit", (event) => this.submit(event));
    form.addEventListener("input", () => this.begin(), { once: true });
    addEventListener("pageshow", (event) => event.persisted && this.idle());
    this.watch();
    fire(form, "ready", { form: this.slug });
  }

  hidden(name, value) {
    let field = this.form.querySelector(`input[name="${name}"]`);
    if (!field) this.form.prepend((field = make("input", { type: "hidden", name })));
    field.value = value;
  }

  mint() {
    this.hidden("render_id", fresh());
  }

  // Where the visitor came from, as far as the form says that it keeps it.
  take() {
    const query = new URLSearchParams(location.search);
    for (const name of (this.form.dataset.doiTake || "").split(" "))
      if (name && query.get(name)) this.hidden(name, query.get(name).slice(0, 200));
  }

  begin() {
    fire(this.form, "start", { form: this.slug });
  }

  watch() {
    let timer;
    const observer = new IntersectionObserver(
      ([entry]) => {
        clearTimeout(timer);
        if (entry.isIntersecting) timer = setTimeout(seen, 1000);
      },
      { threshold: 0.5 },
    );
    const seen = () => {
      observer.disconnect();
      fire(this.form, "view", { form: this.slug });
      const how = { method: "POST", mode: "no-cors", credentials: "omit", referrerPolicy: "no-referrer", keepalive: true };
      fetch(`${HOME}/f/${this.slug}/view`, how).catch(() => {});
    };
    observer.observe(this.form);
  }

  async submit(event) {
    event.preventDefault();
    if (this.sending) return;
    this.sending = new AbortController();
    this.clear();
    this.button.setAttribute("aria-disabled", "true");
    this.button.textContent = this.status.textContent = this.words.busy;
    this.form.setAttribute("aria-busy", "true");
    if (this.proof && !this.proof.ready()) await this.proof.wait();
    fire(this.form, "submit", { form: this.slug });
    const timer = setTimeout(() => this.sending?.abort(), PATIENCE_MS);
    try {
      let [answer, content] = await this.send(event);
      if (content.challenge && !this.proof) {
        // A doubt about where it came from, not about the input: dispelled here, and nobody has to leave the page.
        this.form.dataset.doiChallenge = content.challenge;
        this.proof = prover(this.form, (text) => (this.status.textContent = text));
        await this.proof.wait();
        if (this.proof.ready()) [answer, content] = await this.send(event);
      }
      this.idle();
      if (answer.ok) this.pending();
      else this.refused(answer.status, content);
    } catch {
      this.idle();
      this.tell(this.words.away, 0);
    }
    clearTimeout(timer);
    this.proof?.spent();
  }

  async send(event) {
    const body = new URLSearchParams(new FormData(this.form, event.submitter));
    const { signal } = this.sending;
    const how = { method: "POST", body, headers: { Accept: "application/json" }, credentials: "omit", signal };
    const answer = await fetch(this.url, how);
    return [answer, await answer.json().catch(() => ({}))];
  }

  idle() {
    this.sending = null;
    this.form.removeAttribute("aria-busy");
    this.button.removeAttribute("aria-disabled");
    this.button.textContent = this.label;
    this.status.textContent = "";
  }

  clear() {
    for (const node of this.form.querySelectorAll("[aria-invalid]")) {
      node.removeAttribute("aria-invalid");
      node.setAttribute("aria-describedby", (node.getAttribute("aria-describedby") || "").replace(/\S*-error$/, ""));
    }
    for (const node of this.form.querySelectorAll(".doi-error, .doi-box")) node.remove();
  }

  // What belongs to a field goes beside it; the rest is for our own page, which takes the values along.
  refused(code, { errors = [], detail = "" }) {
    const beside = errors.map((error) => ({ ...error, control: this.control(error.field) }));
    const here = beside.filter((error) => error.control);
    if (code !== 422 || !here.length) return this.tell(errors[0]?.message || detail || this.words.away, code);
    // In the order of the page, whatever the order of the answer.
    here.sort((one, other) => (one.control.compareDocumentPosition(other.control) & 2 ? 1 : -1));
    for (const { control, message } of here) this.mark(control, message);
    const links = here.map(({ control, message }) => {
      const link = make("a", { href: "#" + control.id }, message);
      link.addEventListener("click", (event) => {
        event.preventDefault();
        control.focus();
      });
      return make("li", {}, link);
    });
    const rest = beside.filter((error) => !error.control).map((error) => make("li", {}, error.message));
    const list = make("ul", {}, ...links, ...rest);
    this.box("doi-box doi-bad", make("b", { id: this.id }, this.words.check(errors.length)), list);
    fire(this.form, "error", { form: this.slug, status: code, codes: errors.map((error) => `${error.field}:${error.code}`) });
  }

  control(name) {
    const found = [...this.form.elements].filter((node) => node.name === name && node.type !== "hidden");
    if (found[0] && !found[0].id) found[0].id = `${this.id}-${name}`;
    return found[0];
  }

  mark(control, message) {
    const error = make("p", { class: "doi-error", id: `${control.id}-error` }, make("span", {}, message));
    for (const node of this.form.elements)
      if (node.name === control.name) {
        node.setAttribute("aria-invalid", "true");
        node.setAttribute("aria-describedby", `${node.getAttribute("aria-describedby") || ""} ${error.id}`.trim());
      }
    const place = control.closest("fieldset, .doi-field") || control.closest("p, label");
    place ? place.append(error) : control.after(error);
  }

  box(kind, ...content) {
    const box = make("div", { class: kind, role: "group", tabindex: "-1", "aria-labelledby": this.id }, ...content);
    this.form.prepend(box);
    box.focus();
  }

  tell(message, code) {
    const content = [make("p", { id: this.id }, message)];
    if (code !== 410) {
      const go = make("button", { type: "button", class: "doi-second" }, this.words.go);
      // Sent by the browser itself: our page shows the values and asks for what is missing.
      go.addEventListener("click", () => HTMLFormElement.prototype.submit.call(this.form));
      content.push(go);
    }
    this.box("doi-box", ...content);
    fire(this.form, "error", { form: this.slug, status: code, codes: [] });
  }

  pending() {
    const text = this.words;
    const back = make("button", { type: "button", class: "doi-second" }, text.back);
    const title = this.form.closest(".doi")?.querySelector(".doi-title");
    const done = make(
      "div",
      { class: "doi-done", role: "status", tabindex: "-1" },
      make("span", { class: "doi-badge" }, text.badge),
      make(title?.localName || "p", { class: "doi-title" }, text.title),
      make("ol", {}, ...(this.form.dataset.doiSteps || text.steps).split("|").map((step) => make("li", {}, step))),
      make("p", { class: "doi-note" }, text.spam),
      back,
    );
    back.addEventListener("click", () => {
      done.remove();
      hide(this.form, false);
      this.mint();
      this.control("email")?.focus();
    });
    hide(this.form, true);
    this.form.after(done);
    done.focus();
    fire(this.form, "pending", { form: this.slug });
  }
}

// --- The element, the pop-up and the frame

// The form as our server renders it. A document that was asked for as one runs no script and trips no policy.
function fetched(slug) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("GET", `${HOME}/f/${encodeURIComponent(slug)}/fragment`);
    request.responseType = "document";
    request.timeout = PATIENCE_MS;
    request.onload = () => (request.response?.querySelector(".doi") ? done(request.response) : fail());
    request.onerror = request.ontimeout = fail;
    request.send();
  });
}

async function place(slug, root) {
  const found = document.importNode((await fetched(slug)).querySelector(".doi"), true);
  // The same form may stand on the page already.
  const mark = `-${++count}`;
  for (const name of ["id", "for", "aria-describedby"])
    for (const node of found.querySelectorAll(`[${name}]`)) node.setAttribute(name, node.getAttribute(name) + mark);
  style(root.getRootNode());
  root.replaceChildren(found);
  const form = found.querySelector("form");
  if (form) enhance(form);
  return found;
}

class DoiForm extends HTMLElement {
  async connectedCallback() {
    if (known.has(this)) return;
    known.add(this);
    const slug = this.getAttribute("form");
    const root = this.hasAttribute("shadow") ? this.attachShadow({ mode: "open" }) : this;
    try {
      await place(slug, root);
    } catch {
      if (!this.querySelector("a")) root.replaceChildren(missing(this, slug));
      fire(this, "error", { form: slug, status: 0, codes: ["load"] });
    }
  }
}

const missing = (node, slug) =>
  make("p", {}, words(node).load + " ", make("a", { href: `${HOME}/f/${slug}` }, words(node).go));

function popup(opener) {
  if (known.has(opener)) return;
  known.add(opener);
  opener.setAttribute("role", "button");
  opener.setAttribute("aria-haspopup", "dialog");
  let dialog;
  const open = async (event) => {
    event.preventDefault();
    if (!dialog) {
      style(document);
      // The dialog takes the focus, so that its name is read before its fields.
      dialog = make("dialog", { class: "doi-dialog" });
      document.body.append(dialog);
      // Only now: a page that loads its focus elsewhere would complain.
      dialog.autofocus = true;
      try {
        const found = await place(opener.dataset.doiPopup, dialog);
        const close = make("button", { type: "button", class: "doi-close", "aria-label": words(found).close }, "×");
        close.addEventListener("click", () => dialog.close());
        found.prepend(close);
        const title = found.querySelector(".doi-title");
        if (title) dialog.setAttribute("aria-label", title.textContent);
      } catch {
        dialog.remove();
        return location.assign(`${HOME}/f/${opener.dataset.doiPopup}`);
      }
    }
    if (!dialog.open) dialog.showModal();
  };
  opener.addEventListener("click", open);
  opener.addEventListener("keydown", (event) => event.key === " " && open(event));
}

const EVENTS = ["ready", "view", "start", "submit", "pending", "error"];

// Inside the frame: height and events go to the page that asked, under its own exact origin.
function framed() {
  let host;
  const tell = (message) => host && parent.postMessage(message, host);
  const height = () => tell({ doi: "height", height: Math.ceil(document.documentElement.getBoundingClientRect().height) });
  addEventListener("message", (event) => {
    if (event.source !== parent || event.data?.doi !== "hello" || event.origin === "null") return;
    host = event.origin;
    height();
  });
  new ResizeObserver(height).observe(document.documentElement);
  for (const name of EVENTS) addEventListener("doi:" + name, ({ detail }) => tell({ doi: name, detail }));
}

function frame(node) {
  if (known.has(node)) return;
  known.add(node);
  // Until it is loaded, a lazy frame holds an empty page of the host, which the message is not for.
  const hello = () =>
    node.contentDocument?.URL === "about:blank" || node.contentWindow.postMessage({ doi: "hello" }, HOME);
  addEventListener("message", ({ origin, source, data }) => {
    if (origin !== new URL(HOME).origin || source !== node.contentWindow) return;
    if (data?.doi === "height" && data.height > 0) node.height = Math.min(data.height, 5000);
    else if (EVENTS.includes(data?.doi)) fire(node, data.doi, data.detail);
  });
  node.addEventListener("load", hello);
  hello();
}

for (const form of document.querySelectorAll("form[data-doi], form[data-doi-challenge]")) enhance(form);
for (const opener of document.querySelectorAll("[data-doi-popup]")) popup(opener);
for (const node of document.querySelectorAll("iframe[data-doi]")) frame(node);
if (document.documentElement.hasAttribute("data-doi-frame") && parent !== window) framed();
if (!customElements.get("doi-form")) customElements.define("doi-form", DoiForm);
