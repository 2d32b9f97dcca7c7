// <password-reset endpoint="https://accounts.example.com/graphql/" app="shop"></password-reset>
//
// A form for any page, with nothing to build. It fires `password-changed` when it is done. Its colors are yours:
// --password-reset-accent and the page's own font.

const OPERATIONS = {
  ask: `mutation Request($input: RequestPasswordResetInput!) { requestPasswordReset(input: $input) {
    ... on Error { message } ... on RequestPasswordResetSuccess { reset { requestId matchPhrase } } } }`,
  prove: `mutation Verify($input: VerifyPasswordResetCodeInput!) { verifyPasswordResetCode(input: $input) {
    ... on Error { message } ... on VerifyPasswordResetCodeSuccess { resetToken } } }`,
  choose: `mutation SetPassword($input: ResetPasswordInput!) { resetPassword(input: $input) {
    ... on Error { message } ... on PasswordRejectedError { violations { message } }
    ... on ResetPasswordSuccess { reset { status } } } }`,
};

const FIELDS = {
  ask: ["Email address", "Send the email", "email", "username"],
  prove: ["Code from the email", "Continue", "text", "one-time-code"],
  choose: ["New password", "Change password", "password", "new-password"],
};

const STYLE = `
  :host { display: block; max-width: 24rem; font: inherit; }
  label { display: block; font-weight: 600; }
  input { display: block; box-sizing: border-box; width: 100%; margin: 0.35rem 0 1rem; padding: 0.6rem; font: inherit; font-weight: 400; }
  button { padding: 0.6rem 1.2rem; font: inherit; color: #fff; background: var(--password-reset-accent, #0b57a4); border: 0; }
  p:empty { margin: 0; }
`;

class PasswordReset extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    this.attachShadow({ mode: "open" }).innerHTML = `<style>${STYLE}</style><p role="status"></p>
      <form><label><span></span><input required></label><button></button></form>`;
    this.#in("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const button = this.#in("button");
      button.disabled = true;
      this.#send(this.#step, this.#in("input").value)
        .catch((error) => this.#say(error.message))
        .finally(() => (button.disabled = false));
    });
    this.#show("ask");
  }

  #step;
  #known = { idempotencyKey: newKey() };

  #in(selector) {
    return this.shadowRoot.querySelector(selector);
  }

  #say(text) {
    this.#in("p").textContent = text;
  }

  #show(step) {
    this.#step = step;
    const [label, button, type, autocomplete] = FIELDS[step];
    this.#in("span").textContent = label;
    this.#in("button").textContent = button;
    Object.assign(this.#in("input"), { type, autocomplete, value: "" });
    // Not for the first one: the page around it may have something better to begin with.
    if (step !== "ask") this.#in("input").focus();
  }

  async #send(step, typed) {
    const { idempotencyKey, requestId, resetToken } = this.#known;
    const input = {
      ask: { email: typed, idempotencyKey, app: this.getAttribute("app") },
      prove: { requestId, code: typed },
      choose: { resetToken, newPassword: typed },
    }[step];
    const answer = await this.#ask(OPERATIONS[step], { input });
    if (answer.message) {
      return this.#say([answer, ...(answer.violations ?? [])].map(({ message }) => message).join(" "));
    }
    this.#say("");
    if (step === "ask") {
      this.#known.requestId = answer.reset.requestId;
      this.#show("prove");
      this.#say(`If there is an account, an email with these two words is on its way: ${answer.reset.matchPhrase}`);
    } else if (step === "prove") {
      this.#known.resetToken = answer.resetToken;
      this.#show("choose");
    } else {
      this.#in("form").remove();
      this.#say("Password changed. You can sign in now.");
      this.dispatchEvent(new CustomEvent("password-changed", { bubbles: true }));
    }
  }

  async #ask(query, variables) {
    const response = await fetch(this.getAttribute("endpoint"), {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/graphql-response+json" },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    if (!data) throw new Error(errors[0].message);
    return Object.values(data)[0];
  }
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

customElements.define("password-reset", PasswordReset);
