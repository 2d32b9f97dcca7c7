// What a new password is told while it is typed: how strong it is, and which rules it meets.

import * as api from "./api.js";
import { lengthOf } from "./typed.js";

const PAUSE = 500;
/** Tries of one token: the server counts them together with setting the password, sixty an hour. */
const MOST = 30;

export class Advice {
  #input = document.getElementById("password");
  #rules = document.getElementById("rules");
  #strength = document.getElementById("strength");
  #verdict = document.getElementById("verdict");
  #texts;
  #policy = null;
  #token = "";
  #timer = 0;
  #left = MOST;

  constructor(texts) {
    this.#texts = texts;
    this.#input.addEventListener("input", () => this.#later());
  }

  /** Begin anew, for the account that this token is for. */
  async begin(token) {
    if (this.#token !== token) this.#left = MOST;
    this.#token = token;
    this.#show(0, null);
    this.#policy ??= await api.policy();
    if (this.#policy && !this.#rules.childElementCount) {
      this.#rules.append(...this.#policy.checklist.map((rule) => this.#item(rule)));
    }
  }

  /** Show which rules a password breaks; returns what no rule of the list accounts for. */
  refused(violations) {
    const broken = violations.map(({ code }) => code);
    this.#show(1, broken);
    const listed = this.#policy?.checklist.flatMap(({ codes }) => codes) ?? [];
    return violations.filter(({ code }) => !listed.includes(code)).map(({ message }) => message);
  }

  #later() {
    clearTimeout(this.#timer);
    const length = lengthOf(this.#input.value);
    if (!this.#policy || !length) return this.#show(0, null);
    // Which is known here, and not worth a question.
    if (length < this.#policy.minPasswordLength) return this.#show(1, ["password_too_short", null]);
    this.#timer = setTimeout(() => this.#ask(this.#input.value), PAUSE);
  }

  async #ask(password) {
    if (this.#left <= 0) return;
    this.#left -= 1;
    const answer = await api.checkPassword({ newPassword: password, resetToken: this.#token }).catch(() => ({}));
    if (password !== this.#input.value) return;
    if (answer.violations) this.#verdict.textContent = this.refused(answer.violations).join(" ") || this.#texts.weak;
    else if (answer.score !== undefined) this.#show(answer.score, []);
  }

  /** `broken` are codes; null among them leaves open what the others are, and null in their place leaves all open. */
  #show(score, broken) {
    const { weak, fair, good, strong } = this.#texts;
    this.#strength.dataset.score = score;
    this.#verdict.textContent = broken && !broken.includes(null) ? [weak, weak, fair, good, strong][score] : "";
    [...this.#rules.children].forEach((item, number) => {
      const { codes } = this.#policy.checklist[number];
      const isBroken = codes.some((code) => broken?.includes(code));
      const isKnown = broken && codes.length && (isBroken || !broken.includes(null));
      item.className = isKnown ? (isBroken ? "unmet" : "met") : "";
      item.lastChild.textContent = isKnown ? ` (${isBroken ? this.#texts.unmet : this.#texts.met})` : "";
    });
  }

  #item({ text, codes }) {
    const item = document.createElement("li");
    item.dataset.codes = codes.join(" ");
    const told = Object.assign(document.createElement("span"), { className: "unseen" });
    item.append(text, told);
    return item;
  }
}
