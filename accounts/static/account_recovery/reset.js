// The page behind a mailed link: the secret comes in the fragment, which no server sees, and leaves in a POST alone.
const $ = (id) => document.getElementById(id);
const forms = document.querySelectorAll("form");
const texts = Object.fromEntries([...$("texts").content.children].map(({ id, textContent }) => [id, textContent]));

let token = "";
let reportToken = "";
let requestId = "";
let intention = null;
let unanswered = false;
const title = document.title;

function say(text, { bad = false, strong = "" } = {}) {
  $("say").classList.toggle("bad", bad);
  $("say").replaceChildren(text);
  if (strong) $("say").append(" ", Object.assign(document.createElement("strong"), { textContent: strong }));
}

function show(shown) {
  for (const form of forms) form.hidden = form !== shown;
  // What a reload will find, which forgets everything else: that something was begun here, and nothing of it.
  history.replaceState(shown && shown !== $("ask") ? shown.id : null, "");
  if (shown) document.title = document.querySelector("h1").textContent = shown.dataset.title ?? title;
  shown?.querySelector("input:not([hidden])")?.focus();
}

function refuse(text, input) {
  say(text, { bad: true });
  input?.setAttribute("aria-invalid", "true");
  input?.focus();
}

async function graphql(query, input) {
  const response = await fetch(document.querySelector("main").dataset.endpoint, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/graphql-response+json" },
    credentials: "omit",
    body: JSON.stringify({ query, variables: input && { input } }),
  });
  const { data } = await response.json();
  if (!data) throw new Error(`HTTP ${response.status}`);
  return data;
}

function whenSent(form, task) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    if (button.disabled) return;
    button.disabled = true;
    // Emptied first: a second refusal in the same words is news as well, and has to be announced.
    say("");
    try {
      await task();
    } catch {
      refuse(texts.broken);
    } finally {
      button.disabled = false;
    }
  });
  form.addEventListener("input", ({ target }) => target.removeAttribute("aria-invalid"));
}

whenSent($("ask"), async () => {
  const email = $("email").value;
  // Sent again after an answer that got lost, the key brings that answer instead of a second mail.
  if (intention?.email !== email) intention = { email, key: newKey() };
  const { requestPasswordReset: answer } = await graphql(
    `mutation Ask($input: RequestPasswordResetInput!) {
      requestPasswordReset(input: $input) {
        ... on RequestPasswordResetSuccess { reset { requestId matchPhrase } }
        ... on Error { message }
      }
    }`,
    { email, idempotencyKey: intention.key },
  );
  intention = null;
  if (!answer.reset) return refuse(answer.message, $("email"));
  requestId = answer.reset.requestId;
  $("account").value = email;
  show($("prove"));
  say(texts.mailed, { strong: answer.reset.matchPhrase });
});

whenSent($("prove"), async () => {
  const { verifyPasswordResetCode: answer } = await graphql(
    `mutation Prove($input: VerifyPasswordResetCodeInput!) {
      verifyPasswordResetCode(input: $input) {
        __typename
        ... on VerifyPasswordResetCodeSuccess { resetToken }
        ... on InvalidCodeError { attemptsLeft }
        ... on Error { message }
      }
    }`,
    { requestId, code: $("code").value },
  );
  if (answer.resetToken) {
    token = answer.resetToken;
    $("code").value = "";
    return choose();
  }
  if (answer.attemptsLeft > 0) return refuse(`${answer.message}\n${texts.tries} ${answer.attemptsLeft}`, $("code"));
  if (answer.__typename !== "RateLimitedError") show($("ask"));
  refuse(answer.message);
});

whenSent($("choose"), async () => {
  const { resetPassword: answer } = await graphql(
    `mutation Choose($input: ResetPasswordInput!) {
      resetPassword(input: $input) {
        __typename
        ... on Error { message }
        ... on PasswordRejectedError { violations { message } }
      }
    }`,
    { resetToken: token, newPassword: $("password").value },
  );
  if (answer.__typename === "ResetPasswordSuccess") {
    token = "";
    $("choose").reset();
    show(null);
    return say(texts.changed);
  }
  if (answer.__typename === "InvalidResetTokenError") {
    show($("ask"));
    return refuse(answer.message);
  }
  const reasons = answer.violations?.map((violation) => violation.message) ?? [];
  refuse([answer.message, ...reasons].join("\n"), $("password"));
});

whenSent($("report"), async () => {
  // A report is heard once. After a try whose answer got lost, a refusal is most likely good news.
  const again = unanswered;
  unanswered = true;
  const { reportPasswordReset: answer } = await graphql(
    `mutation Report($input: ReportPasswordResetInput!) {
      reportPasswordReset(input: $input) {
        __typename
        ... on ReportPasswordResetSuccess { cancelled freshLink }
        ... on Error { message }
      }
    }`,
    { reportToken },
  );
  unanswered = false;
  if (answer.__typename === "RateLimitedError") return refuse(answer.message);
  reportToken = "";
  show(answer.message && !again ? $("ask") : null);
  if (answer.message) return again ? say(texts.perhaps) : refuse(answer.message);
  const count = answer.cancelled ? `\n${texts.ended} ${answer.cancelled}` : "";
  say((answer.freshLink ? texts.locked : texts.reported) + count);
});

// Only a token that is known to be bad hides the form: the link is out of the address bar, so this is its one chance.
async function choose() {
  say("");
  const { checkResetToken: answer } = await graphql(
    `mutation CheckToken($input: CheckResetTokenInput!) {
      checkResetToken(input: $input) { __typename ... on Error { message } }
    }`,
    { resetToken: token },
  ).catch(() => ({ checkResetToken: { message: texts.broken } }));
  show(answer.__typename === "InvalidResetTokenError" ? $("ask") : $("choose"));
  if (answer.message) refuse(answer.message);
  if (!$("rules").childElementCount) await showRules().catch(() => {});
}

async function showRules() {
  const { passwordPolicy } = await graphql("query Rules { passwordPolicy { rules } }");
  const items = passwordPolicy.rules.map((rule) =>
    Object.assign(document.createElement("li"), { textContent: rule }),
  );
  $("rules").replaceChildren(...items);
}

function newKey() {
  // Not randomUUID, which plain http does not have.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

$("show").addEventListener("change", ({ target }) => {
  $("password").type = target.checked ? "text" : "password";
});

// Mail programs may encode "#" and "=", some of them twice, and then the fragment is sent as the end of the path. What
// follows a token's own letters was put there by a mail program as well.
const NUMBER_SIGN = /#|%(?:25)*23/;
const SECRET = /^(token|report)(?:=|%(?:25)*3[Dd])([\w-]+|.+)/;

function takeSecret() {
  const [path, ...rest] = (location.pathname + location.hash).split(NUMBER_SIGN);
  const found = rest.map((each) => SECRET.exec(each)).find(Boolean);
  // Neither the history nor a copied address should keep it.
  history.replaceState(found ? found[1] : history.state, "", path);
  return found ? { [found[1]]: found[2] } : {};
}

function start() {
  ({ token = "", report: reportToken = "" } = takeSecret());
  unanswered = false;
  say("");
  if (token) return choose();
  if (reportToken) return show($("report"));
  const begun = history.state;
  show($("ask"));
  if (begun) {
    history.replaceState(begun, "");
    say(begun === "report" ? texts.reportagain : texts.again);
  }
}

// A link opened in the tab that shows this page already changes the fragment and loads nothing.
window.addEventListener("hashchange", () => location.hash && start());
start();
