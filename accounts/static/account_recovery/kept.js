// What outlives a reload in this tab: which reset was asked for. Never a token, a code or a password.

const NAME = "account-recovery";

export function read() {
  try {
    return JSON.parse(sessionStorage.getItem(NAME)) ?? {};
  } catch {
    return {};
  }
}

export function keep(facts) {
  try {
    sessionStorage.setItem(NAME, JSON.stringify({ ...read(), ...facts }));
  } catch {
    // A browser that stores nothing: a reload will begin anew, and all else works.
  }
}

export function forget() {
  try {
    sessionStorage.removeItem(NAME);
  } catch {
    // As above.
  }
}
