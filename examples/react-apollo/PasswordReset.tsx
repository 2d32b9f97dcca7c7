import { useMutation, useQuery } from "@apollo/client/react";
import { type FormEvent, useEffect, useState } from "react";

import { REQUEST, SET_PASSWORD, VERIFY, WATCH } from "./operations";

type Reset = { requestId: string; matchPhrase: string };
type Refusal = { message?: string; violations?: { message: string }[] };

/** The whole way, in three forms. A reset that is completed from the email in another tab is noticed as well. */
export function PasswordReset() {
  const [reset, setReset] = useState<Reset>();
  const [token, setToken] = useState("");
  const [done, setDone] = useState(false);
  const completed = useCompleted(reset?.requestId);
  if (done || completed) return <p role="status">Password changed. You can sign in now.</p>;
  if (token) return <Choose token={token} onDone={() => setDone(true)} />;
  if (reset) return <Prove reset={reset} onProven={setToken} />;
  return <Ask onAsked={setReset} />;
}

function Ask({ onAsked }: { onAsked: (reset: Reset) => void }) {
  const [request] = useMutation<any>(REQUEST);
  // One key for one intention: StrictMode, a double click and a lost answer all lead to the same reset.
  const [key] = useState(newKey);
  return (
    <Step label="Email address" button="Send the email" type="email" autoComplete="username" send={async (email) => {
      const { data } = await request({ variables: { input: { email, idempotencyKey: key } } });
      const answer = data.requestPasswordReset;
      if (answer.reset) onAsked(answer.reset);
      return answer;
    }} />
  );
}

function Prove({ reset, onProven }: { reset: Reset; onProven: (token: string) => void }) {
  const [verify] = useMutation<any>(VERIFY);
  return (
    <>
      <p>If there is an account, an email with these two words is on its way: {reset.matchPhrase}</p>
      <Step label="Code from the email" button="Continue" autoComplete="one-time-code" send={async (code) => {
        const { data } = await verify({ variables: { input: { requestId: reset.requestId, code } } });
        const answer = data.verifyPasswordResetCode;
        if (answer.resetToken) onProven(answer.resetToken);
        return answer;
      }} />
    </>
  );
}

function Choose({ token, onDone }: { token: string; onDone: () => void }) {
  const [setPassword] = useMutation<any>(SET_PASSWORD);
  return (
    <Step label="New password" button="Change password" type="password" autoComplete="new-password" send={async (newPassword) => {
      const { data } = await setPassword({ variables: { input: { resetToken: token, newPassword } } });
      const answer = data.resetPassword;
      if (answer.reset) onDone();
      return answer;
    }} />
  );
}

type StepProps = {
  label: string;
  button: string;
  type?: string;
  autoComplete: string;
  send: (typed: string) => Promise<Refusal>;
};

function Step({ label, button, type = "text", autoComplete, send }: StepProps) {
  const [typed, setTyped] = useState("");
  const [told, setTold] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    const { message, violations = [] } = await send(typed).catch((error: Error): Refusal => error);
    setTold([message, ...violations.map((each) => each.message)].filter(Boolean).join(" "));
    setBusy(false);
  };
  return (
    <form onSubmit={submit}>
      <p role="status">{told}</p>
      <label>
        {label}{" "}
        <input
          type={type}
          autoComplete={autoComplete}
          autoFocus={autoComplete !== "username"}
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
        />
      </label>
      <button disabled={busy}>{button}</button>
    </form>
  );
}

function useCompleted(requestId?: string) {
  const { data, startPolling, stopPolling } = useQuery<any>(WATCH, {
    variables: { requestId },
    skip: !requestId,
    skipPollAttempt: () => document.hidden,
  });
  const reset = data?.passwordResetStatus;
  const over = ["COMPLETED", "CANCELLED"].includes(reset?.status);
  useEffect(() => {
    if (over) stopPolling();
    else if (reset) startPolling(1000 * reset.pollAfterSeconds);
  }, [over, reset?.pollAfterSeconds]);
  return reset?.status === "COMPLETED";
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
