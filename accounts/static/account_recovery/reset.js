// The page behind a mailed link, and the way to one. It speaks the public API alone.
//
// One screen is shown at a time. Which reset was asked for outlives a reload of this tab; a token never does, and it
// stands in no address for longer than it takes to read it.

import * as api from "./api.js";
import * as kept from "./kept.js";
import { Advice } from "./password.js";
import { addressIn, digitsIn } from "./typed.js";

const $ = (id) => document.getElementById(id);
const main = document.querySelector("main");
const screens = [...main.querySelectorAll("section")];
const texts = Object.fromEntries([...$("texts").content.children].map(({ id, textContent }) => [id, textContent]));
const advice = new Advice(texts);

/** Screens that wait for something, so that the status may change what is shown. */
const WAITING = ["prove", "locked", "expired"];
/** Screens that take the place of what was there, so that "back" leads to what was before it. */
const VERDICTS = ["locked", "expired", "used", "over", "reopen", "done", "heard"];

let shown = "";
let token = "";
let reportToken = "";
let reset = kept.read();
let codeLength = 0;
let intention = null;
let late = false;
let busy = false;
let tried = "";
let retry = null;
let lostAnswer = "";
let polling = 0;
let live = "live" in main.dataset;
let following = null;
let missed = null;

// --- What is shown ---------------------------------------------------------------------------------------------------

function say(text, bad = false) {
  $("say").classList.toggle("bad", bad);
  $("say").textContent = text;
}

function refuse(text, input) {
  say(text, true);
  input?.setAttribute("aria-invalid", "true");
  input?.focus();
  input?.select();
}

/** Show a screen and leave the history alone. */
function show(screen) {
  shown = screen;
  $("waiting").hidden = true;
  for (const each of screens) each.hidden = each.id !== screen;
  hidePassword();
  say("");
  const heading = $(screen).querySelector("h1");
  heading.after($("say"));
  document.title = `${heading.textContent} · ${main.dataset.brand}`;
  showSteps(screen);
  tick();
  const field = $(screen).querySelector("input:not([hidden])");
  (field ?? heading).focus();
}

/** Go on to a screen, by an entry of its own in the history unless it is a verdict. */
function go(screen) {
  const isNew = shown && screen !== history.state?.screen && !VERDICTS.includes(screen);
  history[isNew ? "pushState" : "replaceState"]({ screen }, "");
  show(screen);
  poll();
}

function showSteps(screen) {
  const steps = [...document.querySelectorAll(".steps li")];
  const now = steps.findIndex((step) => step.dataset.steps.split(" ").includes(screen));
  document.querySelector(".steps").hidden = now < 0;
  document.querySelector(".steps").classList.remove("unseen-yet");
  steps.forEach((step, number) => {
    step.className = number < now ? "past" : "";
    if (number === now) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
}

function hidePassword(hidden = true) {
  $("password").type = hidden ? "password" : "text";
  $("show").setAttribute("aria-pressed", String(!hidden));
  $("show").textContent = hidden ? texts.showit : texts.hideit;
}

/** Have a form or a button do its task, with its fields as they are until there is an answer. */
async function working(element, task) {
  if (busy) return;
  busy = true;
  const fields = element.querySelectorAll("input:not([readonly])");
  const button = element.matches("button") ? element : element.querySelector("button:not([type=button])");
  for (const field of fields) field.readOnly = true;
  button.setAttribute("aria-disabled", "true");
  button.classList.add("busy");
  hidePassword();
  // Emptied first: a second refusal in the same words is news as well, and has to be announced.
  say("");
  try {
    await task();
  } catch (error) {
    interrupt(error, () => working(element, task));
  } finally {
    busy = false;
    for (const field of fields) field.readOnly = false;
    button.removeAttribute("aria-disabled");
    button.classList.remove("busy");
    tick();
    const found = missed;
    missed = null;
    if (found && WAITING.includes(shown)) heed(found);
  }
}

/** Nobody has answered: say why, and go on from there when asked to, or when there is a network again. */
function interrupt(error, again) {
  const before = shown;
  const isOffline = !navigator.onLine;
  retry = () => {
    retry = null;
    if (before) show(before);
    again();
  };
  show(isOffline ? "offline" : "away");
  $("incident").hidden = !error.requestId;
  $("incident").querySelector("code").textContent = error.requestId ?? "";
}

function whenSent(screen, task) {
  const form = $(screen).querySelector("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    working(form, task);
  });
  form.addEventListener("input", ({ target }) => target.removeAttribute("aria-invalid"));
}

function whenPressed(selector, task) {
  for (const button of main.querySelectorAll(selector)) {
    button.addEventListener("click", () => button.getAttribute("aria-disabled") !== "true" && task(button));
  }
}

// --- The reset that is under way -------------------------------------------------------------------------------------

function remember(facts) {
  reset = { ...reset, ...facts };
  kept.keep(facts);
  tell();
}

/** Write what is known of the reset wherever it stands on the page. */
function tell() {
  for (const each of main.querySelectorAll(".address")) each.textContent = reset.email ?? "";
  for (const each of main.querySelectorAll(".phrase")) each.textContent = reset.matchPhrase ?? "";
  $("account").value = reset.email ?? "";
  if (left(reset.expiresAt) > 0) late = false;
}

function forget() {
  token = "";
  kept.forget();
  // The address stays in its field, so that nobody types it twice.
  reset = { email: reset.email };
  tell();
  $("email").value = reset.email ?? "";
}

/** Seconds until then, by the server's clock. */
function left(moment) {
  return moment ? Math.ceil((Date.parse(moment) - Date.now() - api.skew) / 1000) : 0;
}

function minutes(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** Bring the clocks up to date; each second. */
function tick() {
  const works = left(reset.expiresAt);
  if (works > 0) $("clock").textContent = texts.lasts.replace("{time}", minutes(works));
  else if (reset.expiresAt && shown === "prove" && !late && !busy) return go("expired");
  const pause = left(reset.resendAvailableAt);
  for (const button of main.querySelectorAll(".again")) {
    button.textContent = pause > 0 ? texts.againin.replace("{time}", minutes(pause)) : texts.again;
    if (!busy) button.setAttribute("aria-disabled", String(pause > 0));
  }
}

/** Learn in a moment where the reset stands, from a stream or by asking, as long as the page waits for it. */
function poll(after = reset.pollAfterSeconds ?? 2) {
  clearTimeout(polling);
  if (!WAITING.includes(shown) || !reset.requestId || document.hidden) {
    following?.abort();
    following = null;
  } else if (!following) {
    polling = setTimeout(live ? follow : look, 1000 * after);
  }
}

/** Be told of each change. Where there is no stream, or it has ended, the page asks. */
async function follow() {
  const asked = reset.requestId;
  const stream = new AbortController();
  following = stream;
  let told = false;
  try {
    for await (const found of api.changes(asked, stream.signal)) {
      told = true;
      if (asked !== reset.requestId) break;
      if (busy) missed = found;
      else if (WAITING.includes(shown)) heed(found);
    }
  } catch {
    // The network is gone, or this page has gone on.
  }
  stream.abort();
  if (following !== stream) return;
  following = null;
  live = told;
  poll();
}

/** Ask where the reset stands: it may have been completed from the email, in another tab or on a phone. */
async function look() {
  const asked = reset.requestId;
  const found = await api.status(asked).catch(() => undefined);
  if (found !== undefined && asked === reset.requestId && WAITING.includes(shown) && !busy) heed(found);
  poll();
}

function heed(found) {
  if (!found || found.status === "CANCELLED") {
    forget();
    return go("over");
  }
  remember(found);
  tick();
  if (found.status === "COMPLETED") finish();
  else if (found.status === "LOCKED" && shown !== "locked") go("locked");
  else if (found.status === "EXPIRED" && shown === "prove" && !late) go("expired");
}

function finish() {
  forget();
  $("choose").querySelector("form").reset();
  go("done");
}

// --- What can be done ------------------------------------------------------------------------------------------------

whenSent("ask", async () => {
  const email = addressIn($("email").value);
  // Sent again after an answer that got lost, the key brings that answer instead of a second email.
  if (intention?.email !== email) intention = { email, key: newKey() };
  const answer = await api.requestReset({ email, idempotencyKey: intention.key, app: main.dataset.app });
  intention = null;
  if (!answer.reset) return refuse(answer.message, $("email"));
  token = tried = $("code").value = "";
  late = false;
  remember({ ...answer.reset, email });
  await prove();
});

async function prove() {
  codeLength = (await api.policy())?.codeLength ?? 0;
  go("prove");
}

whenSent("prove", async () => {
  const digits = digitsIn($("code").value);
  if (digits) $("code").value = digits;
  tried = digits;
  const answer = await api.verify({ requestId: reset.requestId, code: $("code").value });
  if (answer.resetToken) {
    token = answer.resetToken;
    $("code").value = "";
    return choose();
  }
  if (answer.attemptsLeft > 0) return refuse(`${answer.message}\n${texts.tries} ${answer.attemptsLeft}`, $("code"));
  if (answer.attemptsLeft === 0) return go("locked");
  if (answer.__typename === "RateLimitedError") return refuse(answer.message, $("code"));
  forget();
  go("over");
});

$("code").addEventListener("input", () => {
  const digits = digitsIn($("code").value);
  if (codeLength && digits.length === codeLength && digits !== tried) $("prove").querySelector("form").requestSubmit();
});

whenPressed(".again", (button) =>
  working(button, async () => {
    const answer = await api.sendAgain({ requestId: reset.requestId });
    if (answer.reset) {
      late = true;
      remember(answer.reset);
      if (shown === "expired") go("prove");
      return say(texts.resent);
    }
    if (answer.__typename !== "RateLimitedError") {
      forget();
      return go("over");
    }
    remember({ resendAvailableAt: new Date(Date.now() + api.skew + 1000 * answer.retryAfter).toISOString() });
    say(answer.message, true);
  }),
);

whenPressed(".other", () => {
  forget();
  go("ask");
  $("email").select();
});
whenPressed(".restart", () => {
  forget();
  go("ask");
});
whenPressed(".late", () => {
  late = true;
  go("prove");
});
whenPressed(".retry", () => retry?.());
addEventListener("online", () => shown === "offline" && retry?.());

// Only a token that is known to be bad hides the form: the link is out of the address bar, so this is its one chance.
async function choose() {
  const answer = await api.checkToken({ resetToken: token });
  if (answer.__typename === "InvalidResetTokenError") return go("used");
  go("choose");
  if (answer.message) refuse(answer.message);
  await advice.begin(token);
}

whenSent("choose", async () => {
  const again = lostAnswer === token;
  lostAnswer = token;
  const answer = await api.setPassword({ resetToken: token, newPassword: $("password").value });
  lostAnswer = "";
  if (answer.__typename === "ResetPasswordSuccess") return finish();
  if (answer.__typename === "InvalidResetTokenError") {
    token = "";
    go("used");
    return again && say(texts.maybechanged);
  }
  const violations = answer.violations ?? [];
  if (violations.length) advice.refused(violations);
  refuse([answer.message, ...violations.map(({ message }) => message)].join("\n"), $("password"));
});

$("show").addEventListener("click", () => {
  hidePassword($("password").type === "text");
  $("password").focus();
});

whenSent("report", async () => {
  // A report is heard once. After a try whose answer got lost, a refusal is most likely good news.
  const again = lostAnswer === reportToken;
  lostAnswer = reportToken;
  const answer = await api.report({ reportToken });
  lostAnswer = "";
  if (answer.__typename === "RateLimitedError") return refuse(answer.message);
  reportToken = "";
  if (answer.message && !again) return go("used");
  const count = answer.cancelled ? ` ${texts.ended} ${answer.cancelled}.` : "";
  const heard = answer.freshLink ? texts.replaced : texts.reported;
  $("heardtext").textContent = answer.message ? texts.perhaps : heard + count;
  go("heard");
});

function newKey() {
  // Not randomUUID, which plain http does not have.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- How it begins ---------------------------------------------------------------------------------------------------

// Mail programs may encode "#" and "=", some of them twice, and then the fragment is sent as the end of the path. What
// follows a token's own letters was put there by a mail program as well.
const NUMBER_SIGN = /#|%(?:25)*23/;
const SECRET = /^(token|report)(?:=|%(?:25)*3[Dd])([\w-]+|.+)/;

function takeSecret() {
  const [path, ...rest] = (location.pathname + location.hash).split(NUMBER_SIGN);
  const found = rest.map((each) => SECRET.exec(each)).find(Boolean);
  // Neither the history nor a copied address should keep it.
  const state = found ? { screen: found[1] === "token" ? "choose" : "report" } : history.state;
  history.replaceState(state, "", path);
  return found ? { [found[1]]: found[2] } : {};
}

/** The screen that an entry of the history leads to, with what is known by now. */
function reachable(screen) {
  if (screen === "choose") return token ? screen : "reopen";
  if (screen === "report") return reportToken ? screen : "reopen";
  if (WAITING.includes(screen)) return reset.requestId ? screen : "ask";
  return ["reopen", "used", "over", shown].includes(screen) ? screen : "ask";
}

async function start() {
  ({ token = "", report: reportToken = "" } = takeSecret());
  tell();
  $("email").value ||= reset.email ?? "";
  if (token) return openLink();
  if (reportToken) return show("report");
  const screen = reachable(history.state?.screen);
  if (screen !== "prove") return go(screen);
  await prove();
  look();
}

function openLink() {
  return choose().catch((error) => interrupt(error, openLink));
}

// Both also come when a link is opened in the tab that shows this page already, which loads nothing.
addEventListener("popstate", ({ state }) => {
  if (location.hash) return;
  show(reachable(state?.screen ?? "ask"));
  poll();
});
addEventListener("hashchange", () => location.hash && start());
document.addEventListener("visibilitychange", () => poll(0));
setInterval(tick, 1000);
start();
