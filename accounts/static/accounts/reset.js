// The page behind a mailed link: the token comes in the fragment, which no server sees, and leaves in a POST alone.
const ask = document.getElementById("ask");
const choose = document.getElementById("choose");
const password = document.getElementById("password");
const token = new URLSearchParams(location.hash.slice(1)).get("token");

// Neither the history nor a copied address should keep it.
history.replaceState(null, "", location.pathname);

function say(text) {
  document.getElementById("say").textContent = text;
}

async function graphql(query, variables) {
  const response = await fetch(ask.dataset.endpoint, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/graphql-response+json" },
    body: JSON.stringify({ query, variables }),
  });
  const { data } = await response.json();
  if (!data) throw new Error(`HTTP ${response.status}`);
  return data;
}

function working(form, task) {
  return async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await task();
    } catch {
      say("Something went wrong on the way. Please try again in a moment.");
    } finally {
      button.disabled = false;
    }
  };
}

async function showChoice() {
  const data = await graphql(
    `mutation CheckToken($input: CheckResetTokenInput!) {
      checkResetToken(input: $input) { __typename ... on Error { message } }
    }`,
    { input: { resetToken: token } },
  );
  if (data.checkResetToken.__typename !== "CheckResetTokenSuccess") {
    say(data.checkResetToken.message);
    ask.hidden = false;
    return;
  }
  const { passwordPolicy } = await graphql("query Rules { passwordPolicy { rules } }");
  document.getElementById("rules").replaceChildren(
    ...passwordPolicy.rules.map((rule) => Object.assign(document.createElement("li"), { textContent: rule })),
  );
  choose.hidden = false;
  password.focus();
}

ask.addEventListener(
  "submit",
  working(ask, async () => {
    const data = await graphql(
      `mutation Ask($input: RequestPasswordResetInput!) {
        requestPasswordReset(input: $input) {
          ... on RequestPasswordResetSuccess { reset { matchPhrase } }
          ... on Error { message }
        }
      }`,
      { input: { email: document.getElementById("email").value } },
    );
    const { reset, message } = data.requestPasswordReset;
    if (!reset) return say(message);
    ask.hidden = true;
    say(`If there is an account, a mail is on its way. Yours has these two words in it: ${reset.matchPhrase}`);
  }),
);

choose.addEventListener(
  "submit",
  working(choose, async () => {
    const { resetPassword } = await graphql(
      `mutation Choose($input: ResetPasswordInput!) {
        resetPassword(input: $input) {
          __typename
          ... on Error { message }
          ... on PasswordRejectedError { violations { message } }
        }
      }`,
      { input: { resetToken: token, newPassword: password.value } },
    );
    const { __typename: answer, message, violations = [] } = resetPassword;
    if (answer === "ResetPasswordSuccess") {
      choose.hidden = true;
      password.value = "";
      return say("Your password is changed. You can sign in with it now.");
    }
    say([message, ...violations.map((violation) => violation.message)].join("\n"));
    if (answer === "InvalidResetTokenError") {
      choose.hidden = true;
      ask.hidden = false;
    } else {
      password.focus();
    }
  }),
);

document.getElementById("show").addEventListener("change", ({ target }) => {
  password.type = target.checked ? "text" : "password";
});

if (token) showChoice().catch(() => say("Something went wrong on the way. Please reload the page."));
else ask.hidden = false;
