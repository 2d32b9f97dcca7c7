import { Recovery, newKey } from "./recovery.js";

const recovery = new Recovery(document.body.dataset.endpoint);
const key = newKey(); // one for this form: after a lost answer the same reset answers, and nobody is mailed twice
const form = document.querySelector("form");
const [label] = form.querySelectorAll("label");
const field = form.querySelector("input");
const button = form.querySelector("button");
const say = document.querySelector("[role=status]");

// One form for all three steps: what each asks for, and what it does with the answer.
const ask = {
  label: "Email address",
  button: "Send the email",
  field: { type: "email", autocomplete: "username" },
  async send(email) {
    const answer = await recovery.request(email, key);
    if (!answer.reset) return say.replaceChildren(answer.message);
    show(prove(answer.reset.requestId));
    say.replaceChildren(`If there is an account, an email with these two words is on its way: ${answer.reset.matchPhrase}`);
  },
};
const prove = (requestId) => ({
  label: "Code from the email",
  button: "Continue",
  field: { type: "text", autocomplete: "one-time-code", inputMode: "numeric" },
  async send(code) {
    const answer = await recovery.verify(requestId, code);
    if (!answer.resetToken) return say.replaceChildren(answer.message);
    show(choose(answer.resetToken));
  },
});
const choose = (resetToken) => ({
  label: "New password",
  button: "Change password",
  field: { type: "password", autocomplete: "new-password" },
  async send(password) {
    const answer = await recovery.setPassword(resetToken, password);
    if (!answer.reset) return say.replaceChildren([answer, ...(answer.violations ?? [])].map((each) => each.message).join(" "));
    form.remove();
    say.replaceChildren("Password changed. You can sign in now.");
  },
});

let step;
function show(next) {
  step = next;
  label.firstChild.data = `${step.label} `;
  button.replaceChildren(step.button);
  Object.assign(field, { value: "", inputMode: "", ...step.field });
  say.replaceChildren();
  field.focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  await step.send(field.value).catch((error) => say.replaceChildren(error.message));
  button.disabled = false;
});
show(ask);
