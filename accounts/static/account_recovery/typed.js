// What people type and paste, and what they mean by it.

const INVISIBLE = /[\p{Cf}\p{Cc}]/gu;

/** The address in "Ada <ada@example.com>", "mailto:ada@example.com" or "ada@example.com."; otherwise as typed. */
export function addressIn(typed) {
  const text = typed.replace(INVISIBLE, "").trim();
  const inside = /<([^<>\s]+@[^<>\s]+)>/.exec(text)?.[1] ?? text;
  return inside.replace(/^mailto:/i, "").replace(/^["'(]+|["'),;.]+$/g, "");
}

/** The digits in "Your code: 123 456", in whatever digits and signs they came. */
export function digitsIn(typed) {
  return typed.normalize("NFKC").replace(/\D/g, "");
}

/** Characters as the server counts them: code points, after NFC. */
export function lengthOf(password) {
  return [...password.normalize("NFC")].length;
}
